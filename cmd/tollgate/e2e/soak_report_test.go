//go:build soak

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// soakReport collects what the soak found.
type soakReport struct {
	load       *soakLoad
	knee, rate int
	busy       [2]string // load averages of the machine before and after
}

// soakLimit is how much a measure of a witness may grow in ten minutes: so many
// parts of its median, or so much. What leaks shows in what is live: of resident
// memory a collector keeps more or less, as it happens.
type soakLimit struct {
	name    string
	value   func(soakPoint) float64
	part    float64
	floor   float64
	decimal int
}

var soakLimits = []soakLimit{
	{"live, MB", measure(soakHeap), 0.01, 0.25, 1},
	{"RSS, MB", measure(soakRSS), 0.03, 1, 1},
	{"descriptors", ownDescriptors, 0.01, 1, 0},
	{"goroutines", measure(soakGoroutines), 0.01, 1, 0},
}

// write writes the table, the graph and the samples, and judges.
func (r *soakReport) write(t testing.TB, s *soak, l *soakLoad, w *soakTokens, m *sampler, out string) {
	t.Helper()
	from := s.minutes / 4
	var b strings.Builder
	fmt.Fprintf(&b, "# The last soak\n\nMade by `make soak` on %s at commit %s: %d minutes at %d calls a second, half of the %d that this machine bore with 99 of 100 calls below 25 ms (%s).\n",
		time.Now().UTC().Format(time.DateOnly), command("git", "rev-parse", "--short", "HEAD"), int(s.minutes.Minutes()), r.rate, r.knee, machine(r.busy))
	b.WriteString("What it does and how to read it: [operations](operations.md#the-soak).\n\n![resident memory, goroutines, descriptors and latency over the soak](soak.svg)\n\n")

	verdict := func(ok bool) string {
		if ok {
			return "pass"
		}
		t.Fail()
		return "**fail**"
	}
	right, excused, loose, wrong := 0, sum(l.excused), sum(l.loose), sum(l.wrong)
	for _, n := range l.right {
		right += n
	}
	b.WriteString("| | | |\n| --- | --- | --- |\n")
	row := func(what, figure, result string) { fmt.Fprintf(&b, "| %s | %s | %s |\n", what, figure, result) }
	row("right answers", thousands(right), "")
	row("wrong answers", thousands(wrong), verdict(wrong == 0))
	row("undecided (503 or no answer) where a restart or a busy machine explains it", fmt.Sprintf("%s: %s", thousands(excused), list(l.excused)), "")
	row("undecided where nothing allows it", thousands(loose), verdict(loose == 0))
	starved := time.Duration(0)
	for _, f := range s.starved {
		starved += f.to.Sub(f.from)
	}
	row("the load generator itself waited more than 50 ms for a processor", fmt.Sprintf("%s times, %v in all", thousands(len(s.starved)), starved.Round(time.Second)), "")
	row("processor time that the host of the machine gave to others", fmt.Sprintf("%.1f %%", 100*(stolen()-s.stolen).Seconds()/time.Since(s.began).Seconds()), "")
	row("restarts", list(s.lives), "")
	row("changes of APIs and subscriptions", thousands(int(w.changes.Load())), verdict(w.changes.Load() > int64(s.minutes.Seconds()/2)))
	row("tokens issued, revoked", thousands(int(w.issued.Load()))+", "+thousands(int(w.ended.Load())), verdict(w.ended.Load() > int64(3*s.minutes.Seconds())))
	row("requests to key managers that were repeated", thousands(int(w.retried.Load())), "")
	slices.Sort(l.late)
	late := "none was let through"
	if n := len(l.late); n > 0 {
		late = fmt.Sprintf("%d calls of them let through, the last after %v", n, l.late[n-1].Round(time.Millisecond))
	}
	row("revoked tokens, after the answer", late, "")
	row("calls that the load generator left out", thousands(l.skipped), "")
	p99 := func(from, to time.Duration) time.Duration {
		var all []time.Duration
		for _, x := range m.load {
			if x.at >= from && x.at < to && x.calls > 0 {
				all = append(all, x.p99)
			}
		}
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[len(all)/2].Round(100 * time.Microsecond)
	}
	row("p99, median of the windows of 5 s, by quarter", fmt.Sprintf("%v, %v, %v, %v", p99(from/4, from), p99(from, 2*from), p99(2*from, 3*from), p99(3*from, 4*from)), "")

	fmt.Fprintf(&b, "\n## Processes that ran from minute %.0f to the end\n\n", from.Minutes())
	b.WriteString("Growth is in ten minutes: the median slope of all pairs of samples. What is live may grow by 1 % or 0.25 MB, resident memory by 3 % or 1 MB, the others by 1 % or 1.\n" +
		"Live is what the last collection of garbage found in use; of Envoy it is what is allocated, its descriptors are those beside the connections of callers and back ends, and its threads are counted. Goroutines are those at an equal number of descriptors: a connection has some of its own.\n\n|")
	for _, limit := range soakLimits {
		fmt.Fprintf(&b, " | %s | growth", limit.name)
	}
	b.WriteString(" | |\n|" + strings.Repeat(" --- |", 2+2*len(soakLimits)) + "\n")
	for _, n := range s.Nodes() {
		if !witness(n.Name) {
			continue
		}
		points := slices.DeleteFunc(slices.Clone(m.points[n.Name]), func(p soakPoint) bool { return p.at < from })
		ok := len(points) > 0 && points[0].life == points[len(points)-1].life
		points = withoutConnections(points)
		fmt.Fprintf(&b, "| %s ", n.Name)
		for _, limit := range soakLimits {
			more, median := trend(points, limit.value)
			ok = ok && more <= max(limit.part*median, limit.floor)
			fmt.Fprintf(&b, "| %.*f | %+.2f ", limit.decimal, median, more)
		}
		fmt.Fprintf(&b, "| %s |\n", verdict(ok))
	}
	b.WriteString("\n## Processes that were restarted\n\nTheir highest figures in each life, one after another.\n\n| | RSS, MB | descriptors | goroutines |\n| --- | --- | --- | --- |\n")
	for _, n := range s.Nodes() {
		if witness(n.Name) {
			continue
		}
		fmt.Fprintf(&b, "| %s ", n.Name)
		for _, measure := range []int{soakRSS, soakFDs, soakGoroutines} {
			var highest []string
			points := m.points[n.Name]
			for i := 0; i < len(points); {
				j, most := i, 0.0
				for ; j < len(points) && points[j].life == points[i].life; j++ {
					most = max(most, points[j].measures[measure])
				}
				highest = append(highest, fmt.Sprintf("%.0f", most))
				i = j
			}
			fmt.Fprintf(&b, "| %s ", strings.Join(highest, ", "))
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n## Stores\n\n| | begin of the second quarter | end | growth in ten minutes | |\n| --- | --- | --- | --- | --- |\n")
	for _, x := range []struct {
		store   string
		measure int
		what    string
		limit   float64 // part of the median; 0 = told only
	}{
		{"postgres", soakRows, "PostgreSQL: access tokens", 0.05}, {"postgres", soakFDs, "PostgreSQL: connections", 0.05},
		{"postgres", soakHeap, "PostgreSQL: size, MB (the log of events and the audit trail are kept)", 0},
		{"redis", soakRows, "Redis: keys", 0.05}, {"redis", soakHeap, "Redis: used memory, MB", 0.05}, {"redis", soakFDs, "Redis: connections", 0.05},
	} {
		points := slices.DeleteFunc(slices.Clone(m.points[x.store]), func(p soakPoint) bool { return p.at < from })
		if len(points) == 0 {
			row(x.what, "", verdict(false))
			continue
		}
		more, median := trend(points, measure(x.measure))
		result := ""
		if x.limit > 0 {
			result = verdict(more <= max(x.limit*median, 1))
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %+.2f | %s |\n", x.what, points[0].measures[x.measure], points[len(points)-1].measures[x.measure], more, result)
	}
	if wrong+loose > 0 {
		b.WriteString("\n## What was not as it should be\n\n")
		for _, part := range []map[string]int{l.wrong, l.loose} {
			for _, what := range slices.Sorted(maps.Keys(part))[:min(20, len(part))] {
				fmt.Fprintf(&b, "* %d × %s\n", part[what], hosts.ReplaceAllString(what, "ADDRESS"))
			}
		}
	}
	for name, content := range map[string]string{".md": b.String(), ".svg": soakGraph(s, m), ".csv": soakCSV(m)} {
		if err := os.WriteFile(out+name, []byte(content), 0o600); err != nil {
			t.Error(err)
		}
	}
	t.Log("\n" + b.String())
}

func soakCSV(m *sampler) string {
	var b strings.Builder
	b.WriteString("seconds,process,life,rss_mb,descriptors,connections,goroutines,live_mb,rows\n")
	for _, name := range slices.Sorted(maps.Keys(m.points)) {
		for _, p := range m.points[name] {
			fmt.Fprintf(&b, "%.0f,%s,%d", p.at.Seconds(), name, p.life)
			for _, v := range p.measures {
				fmt.Fprintf(&b, ",%.2f", v)
			}
			b.WriteString("\n")
		}
	}
	for _, x := range m.load {
		fmt.Fprintf(&b, "%.0f,traffic p50 p99 us undecided calls,0,%d,%d,%d,%d,0,0\n", x.at.Seconds(), x.p50.Microseconds(), x.p99.Microseconds(), x.undecided, x.calls)
	}
	return b.String()
}

// machine describes where it ran.
func machine(busy [2]string) string {
	cores := command("nproc")
	return fmt.Sprintf("%s cores, which the load generator and all processes share; load averages of the machine %s before and %s after", cores, busy[0], busy[1])
}

func command(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// loadAverages of the last 1, 5 and 15 minutes.
func loadAverages() string {
	data, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(data)); err == nil && len(f) > 2 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func list(counts map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(out, ", ")
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
