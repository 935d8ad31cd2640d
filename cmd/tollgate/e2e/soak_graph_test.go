//go:build soak

package e2e

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// hosts are addresses, whose ports say nothing.
var hosts = regexp.MustCompile(`127\.0\.0\.1:\d+(->127\.0\.0\.1:\d+)?`)

// The graph: panels one above the other, on one axis of time.
const (
	graphWidth, panelHeight = 860, 150
	graphLeft, graphRight   = 60, 120
	panelGap                = 42
	graphPoints             = 150 // of one line, which keeps the file small
)

// soakGraph draws the witnesses as SVG that can be read on light and on dark.
func soakGraph(s *soak, m *sampler) string {
	names := []string{"keymanager-1", "xds-1", "authz-1", "envoy-1"}
	panels := []struct {
		title string
		names []string
		value func(string) []point
	}{
		{"resident memory, MB", names, func(n string) []point { return m.line(n, soakRSS) }},
		{"goroutines", names[:3], func(n string) []point { return m.line(n, soakGoroutines) }},
		{"open descriptors", names, func(n string) []point { return m.line(n, soakFDs) }},
		{"latency of a call, ms (p99 up to 1000)", []string{"p50", "p99"}, m.latency},
		{"undecided calls, % (503 or no answer)", []string{"all gateways"}, m.undecided},
	}
	height := len(panels)*(panelHeight+panelGap) + 40
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<style>text{fill:#333}.g{stroke:#8884;fill:none}.r{stroke:#888;stroke-dasharray:2 3;fill:none}.l{fill:none;stroke-width:1.5}
.c0{stroke:#0b66c3}.c1{stroke:#c2410c}.c2{stroke:#15803d}.c3{stroke:#7e22ce}
@media(prefers-color-scheme:dark){text{fill:#ddd}.c0{stroke:#6cb6ff}.c1{stroke:#ff9a5c}.c2{stroke:#5fd38d}.c3{stroke:#cf9bff}}</style>
`, graphWidth, height)
	width := float64(graphWidth - graphLeft - graphRight)
	x := func(at time.Duration) float64 { return graphLeft + width*at.Seconds()/s.minutes.Seconds() }
	for i, p := range panels {
		top := float64(i*(panelHeight+panelGap) + 24)
		var lines [][]point
		most := 0.0
		for _, n := range p.names {
			line := thin(p.value(n))
			lines = append(lines, line)
			for _, q := range line {
				most = max(most, q.y)
			}
		}
		step := niceStep(most / 4)
		most = max(step, math.Ceil(most/step)*step)
		y := func(v float64) float64 { return top + panelHeight - panelHeight*v/most }
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%.0f\" font-weight=\"bold\">%s</text>\n", graphLeft, top-8, p.title)
		for v := 0.0; v <= most+step/2; v += step {
			fmt.Fprintf(&b, "<path class=\"g\" d=\"M%d %.0fh%.0f\"/><text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">%g</text>\n", graphLeft, y(v), width, graphLeft-6, y(v)+4, math.Round(v*1000)/1000)
		}
		var marks strings.Builder
		for _, f := range s.faults {
			fmt.Fprintf(&marks, "M%.0f %.0fv%d", x(f.from.Sub(s.began)), top, panelHeight)
		}
		fmt.Fprintf(&b, "<path class=\"r\" stroke-width=\".5\" d=\"%s\"/>\n", marks.String())
		for k, line := range lines {
			var path strings.Builder
			for j, q := range line {
				command := "L"
				if j == 0 || q.gap {
					command = "M"
				}
				fmt.Fprintf(&path, "%s%.0f %.1f", command, x(q.at), y(q.y))
			}
			fmt.Fprintf(&b, "<path class=\"l c%d\" d=\"%s\"/>\n", k, path.String())
			fmt.Fprintf(&b, "<path class=\"l c%d\" d=\"M%d %.0fh14\"/><text x=\"%d\" y=\"%.0f\">%s</text>\n", k, graphWidth-graphRight+8, top+12+18*float64(k), graphWidth-graphRight+26, top+16+18*float64(k), p.names[k])
		}
	}
	for minute := time.Duration(0); minute <= s.minutes; minute += max(time.Minute, s.minutes/6).Round(time.Minute) {
		fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%.0f min</text>\n", x(minute), height-24, minute.Minutes())
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\">dashed: something was restarted</text>\n</svg>\n", graphLeft, height-6)
	return b.String()
}

// point is one of a line; gap = not joined to the one before.
type point struct {
	at  time.Duration
	y   float64
	gap bool
}

func (m *sampler) line(name string, measure int) []point {
	var out []point
	life := -1
	for _, p := range m.points[name] {
		out = append(out, point{p.at, p.measures[measure], p.life != life})
		life = p.life
	}
	return out
}

func (m *sampler) latency(name string) []point {
	var out []point
	for _, x := range m.load {
		d := x.p99
		if name == "p50" {
			d = x.p50
		}
		out = append(out, point{x.at, min(1000, float64(d.Microseconds())/1000), false})
	}
	return out
}

func (m *sampler) undecided(string) []point {
	var out []point
	for _, x := range m.load {
		out = append(out, point{x.at, 100 * float64(x.undecided) / float64(max(1, x.calls)), false})
	}
	return out
}

// thin keeps the highest of each few points.
func thin(line []point) []point {
	group := (len(line) + graphPoints - 1) / graphPoints
	if group < 2 {
		return line
	}
	var out []point
	for part := range slices.Chunk(line, group) {
		best := part[0]
		for _, p := range part {
			gap := best.gap || p.gap
			if p.y > best.y {
				best = p
			}
			best.gap = gap
		}
		out = append(out, best)
	}
	return out
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5, 10} {
		if v <= k*base {
			return k * base
		}
	}
	return 10 * base
}
