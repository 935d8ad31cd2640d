package main

import "math/bits"

// histogram counts durations in nanoseconds, 32 linear steps for each power of
// two: about 3 % wide, no allocation.
type histogram struct {
	buckets [64 * 32]uint64
	count   uint64
	max     uint64
}

func bucketOf(v uint64) int {
	if v < 32 {
		return int(v)
	}
	e := bits.Len64(v) - 6
	return (e+1)*32 + int(v>>uint(e)) - 32
}

func bucketStart(i int) uint64 {
	if i < 32 {
		return uint64(i)
	}
	e := i/32 - 1
	return uint64(i%32+32) << uint(e)
}

func (h *histogram) add(ns uint64) {
	h.buckets[bucketOf(ns)]++
	h.count++
	h.max = max(h.max, ns)
}

func (h *histogram) merge(o *histogram) {
	for i := range h.buckets {
		h.buckets[i] += o.buckets[i]
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// quantile returns the p-quantile in microseconds, 0 when nothing was counted.
func (h *histogram) quantile(p float64) float64 {
	if h.count == 0 {
		return 0
	}
	want := uint64(p * float64(h.count))
	var sum uint64
	for i, c := range h.buckets {
		if sum += c; sum > want {
			return float64(bucketStart(i)) / 1e3
		}
	}
	return float64(h.max) / 1e3
}
