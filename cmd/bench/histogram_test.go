package main

import (
	"math/rand"
	"slices"
	"testing"
)

func TestHistogramQuantiles(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	var a, b histogram
	var all []uint64
	for i := range 10_000 {
		v := uint64(rnd.ExpFloat64() * 50_000)
		all = append(all, v)
		if i%2 == 0 {
			a.add(v)
		} else {
			b.add(v)
		}
	}
	a.merge(&b)
	slices.Sort(all)
	for _, p := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := float64(all[int(p*float64(len(all)))]) / 1e3
		got := a.quantile(p)
		if got < want*0.95-0.05 || got > want*1.05+0.05 {
			t.Errorf("quantile(%g) = %g µs, want %g within 5 %%", p, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("quantile of an empty histogram = %g, want 0", got)
	}
	if a.count != uint64(len(all)) || a.max != all[len(all)-1] {
		t.Errorf("count, max = %d, %d; want %d, %d", a.count, a.max, len(all), all[len(all)-1])
	}
}

func TestBucketsAreContiguous(t *testing.T) {
	for v := range uint64(1 << 20) {
		i := bucketOf(v)
		if start := bucketStart(i); start > v {
			t.Fatalf("bucket of %d starts at %d", v, start)
		}
		if next := bucketStart(i + 1); next <= v {
			t.Fatalf("bucket of %d ends at %d", v, next)
		}
	}
}
