package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	gometrics "runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// tuneMemory lets the heap grow to five times what is live before it is
// collected: the live heap is small, and collecting it often costs a fifth of
// the throughput. A limit at 60 % of the memory there is keeps that from
// becoming dangerous. What the operator has set in the environment holds.
//
// An authz beside every Envoy is to be small, and its live heap is mostly
// verdicts: five times those is too much. There balanceMemory gives it room.
func tuneMemory(r roles) {
	if os.Getenv("GOGC") == "" && !small(r) {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if total := availableMemory(); total > 0 && total < math.MaxInt64/6 {
			debug.SetMemoryLimit(total / 10 * 6)
		}
	}
}

func small(r roles) bool { return r == roles{authz: true} }

// The room of a small process between two collections: what it allocates in a
// tenth of a second under full load, whatever is live.
const (
	smallRoom    = 24 << 20
	minGCPercent = 50
	maxGCPercent = 400
)

// balanceMemory keeps the distance between what is live and what is collected,
// until ctx ends.
func balanceMemory(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	live := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		gometrics.Read(live)
		if live[0].Value.Kind() == gometrics.KindUint64 {
			debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// gcPercent returns the GOGC that leaves smallRoom above what is live.
func gcPercent(live uint64) int {
	if live == 0 {
		return maxGCPercent
	}
	return int(min(max(smallRoom*100/live, minGCPercent), maxGCPercent))
}

// availableMemory returns the memory of the container (cgroup v2 or v1) or of
// the machine, in bytes; 0 where neither is known.
func availableMemory() int64 {
	least := int64(0)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (least == 0 || n < least) {
			least = n
		}
	}
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(data)) { // MemTotal:  24679800 kB
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			if kb, err := strconv.ParseInt(f[1], 10, 64); err == nil && (least == 0 || kb*1024 < least) {
				least = kb * 1024
			}
		}
	}
	return least
}
