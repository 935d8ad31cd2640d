package main

import (
	"fmt"
	"io"
	"math/rand"
	"os"
	"slices"
	"text/tabwriter"
)

// variant is one server under one load. All servers of a comparison stay up
// (an idle one costs nothing); windows are short and interleaved, because the
// neighbours of a shared machine move absolute rates by a factor of two within
// seconds, but ratios inside one round by about 10 %.
type variant struct {
	name string
	load loadOptions
}

// sample is one window, and its ratios to the reference windows around it.
type sample struct {
	loadResult
	rateRatio, cpuRatio float64
}

const (
	foreignLimit = 7.0 // percent of the machine that other programs may take in a window
	windowTries  = 4
)

// compare runs rounds of all variants in random order with the first one, the
// reference, again after every second variant. Progress is shown on standard
// error.
func compare(rounds int, vs []variant) (map[string][]sample, error) {
	for _, v := range vs { // warm
		if _, err := load(v.load); err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
	}
	samples := map[string][]sample{}
	rnd := rand.New(rand.NewSource(1)) // the order, not a secret
	rest := slices.Clone(vs[1:])
	for r := range rounds {
		rnd.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		var sequence []variant
		for i, v := range rest {
			if i%2 == 0 {
				sequence = append(sequence, vs[0])
			}
			sequence = append(sequence, v)
		}
		sequence = append(sequence, vs[0])
		results := make([]*loadResult, len(sequence))
		for i, v := range sequence {
			res, err := quietWindow(v.load)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			results[i] = res
		}
		for i, v := range sequence {
			if results[i] == nil {
				continue
			}
			s := sample{loadResult: *results[i]}
			if base := neighbours(sequence, results, i, vs[0].name); v.name != vs[0].name && base != nil {
				s.rateRatio = s.Rate / base.Rate
				if c := base.totalCPU(); c > 0 {
					s.cpuRatio = s.totalCPU() / c
				}
			}
			samples[v.name] = append(samples[v.name], s)
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d ", r+1, rounds)
	}
	fmt.Fprintln(os.Stderr)
	return samples, nil
}

// quietWindow repeats a window that other programs disturbed; nil when none was
// quiet.
func quietWindow(o loadOptions) (*loadResult, error) {
	for range windowTries {
		r, err := load(o)
		if err != nil {
			return nil, err
		}
		if r.Foreign <= foreignLimit {
			return r, nil
		}
	}
	return nil, nil
}

// neighbours returns the mean of the reference windows before and after i.
func neighbours(seq []variant, res []*loadResult, i int, ref string) *loadResult {
	var near []*loadResult
	for _, step := range []int{-1, 1} {
		for j := i + step; j >= 0 && j < len(seq); j += step {
			if seq[j].name == ref && res[j] != nil {
				near = append(near, res[j])
				break
			}
		}
	}
	if len(near) == 0 {
		return nil
	}
	mean := &loadResult{ServerCPU: []float64{0}}
	for _, r := range near {
		mean.Rate += r.Rate / float64(len(near))
		mean.ServerCPU[0] += r.totalCPU() / float64(len(near))
	}
	return mean
}

func (r *loadResult) totalCPU() float64 {
	sum := 0.0
	for _, c := range r.ServerCPU {
		sum += c
	}
	return sum
}

// median of f over the samples; 0 when there is none.
func median(samples []sample, f func(sample) float64) float64 {
	var xs []float64
	for _, s := range samples {
		xs = append(xs, f(s))
	}
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// report prints medians over all quiet windows. cpu names the processes of
// loadOptions.PIDs.
func report(out io.Writer, vs []variant, samples map[string][]sample, cpu ...string) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "variant\tn\treq/s\tp50 µs\tp99 µs\t")
	for _, c := range cpu {
		fmt.Fprintf(w, "%s CPU µs\t", c)
	}
	fmt.Fprint(w, "rate ratio\tCPU ratio\terrors\t\n")
	for _, v := range vs {
		s := samples[v.name]
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.0f\t", v.name, len(s), median(s, func(s sample) float64 { return s.Rate }),
			median(s, func(s sample) float64 { return s.P50 }), median(s, func(s sample) float64 { return s.P99 }))
		for i := range cpu {
			fmt.Fprintf(w, "%.2f\t", median(s, func(s sample) float64 {
				if i < len(s.ServerCPU) {
					return s.ServerCPU[i]
				}
				return 0
			}))
		}
		var errs uint64
		wrong := ""
		for _, x := range s {
			errs += x.Errors
			if wrong == "" {
				wrong = x.Wrong
			}
		}
		if v.name == vs[0].name {
			fmt.Fprint(w, "1\t1\t")
		} else {
			fmt.Fprintf(w, "%.2f\t%.2f\t", median(s, func(s sample) float64 { return s.rateRatio }), median(s, func(s sample) float64 { return s.cpuRatio }))
		}
		fmt.Fprintf(w, "%d\t%s\n", errs, wrong)
	}
	_ = w.Flush()
	if slices.ContainsFunc(vs, func(v variant) bool { return len(samples[v.name]) == 0 }) {
		fmt.Fprintf(out, "n is the number of quiet windows: other programs took more than %.0f %% of the machine in all others\n", foreignLimit)
	}
}
