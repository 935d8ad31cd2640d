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
// verdicts: five times those is too much. There balanceMemory gives it room. And
// an xds has every resource of the catalog in memory: there balanceTables does.
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

// The room of a small process between two collections. It is what the process
// allocates in a while at the rate of the last second, so that one that has
// nothing to do stays small, and one that is busy does not collect all the time.
// Marking takes a millisecond for a megabyte that is live: with that much time
// between two collections it takes a thirtieth of one core.
const (
	leastRoom = 4 << 20
	mostRoom  = 24 << 20

	leastPause  = 0.15     // seconds between two collections
	liveASecond = 30 << 20 // bytes: each of them is a second more

	quietRate  = 256 << 10 // bytes allocated in a second, by one that has nothing to do
	quietTicks = 3
)

// balanceMemory keeps the distance between what is live and what is collected,
// until ctx ends. When there is no more to do, it gives back what a load has
// left behind.
func balanceMemory(ctx context.Context) error { return balance(ctx, gcPercent) }

// balanceTables does so for a process that holds what it tells Envoys.
func balanceTables(ctx context.Context) error { return balance(ctx, tablesPercent) }

func balance(ctx context.Context, room roomFunc) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	b := memoryBalance{room: room}
	for {
		percent, release := b.next(readMemory())
		if percent != b.percent {
			b.percent = percent
			debug.SetGCPercent(percent)
		}
		if release {
			debug.FreeOSMemory()
			releaseProgram()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// readMemory returns the bytes that the last collection found live, and those
// allocated since the start.
func readMemory() (live, allocated uint64) {
	s := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	gometrics.Read(s)
	for i, to := range []*uint64{&live, &allocated} {
		if s[i].Value.Kind() == gometrics.KindUint64 {
			*to = s[i].Value.Uint64()
		}
	}
	return live, allocated
}

// memoryBalance is what balanceMemory remembers from one second to the next.
type memoryBalance struct {
	room      roomFunc
	percent   int // GOGC as it is set; 0 = not yet
	allocated uint64
	quiet     int  // ticks without much to do
	used      bool // there was much to do since memory was given back
}

// next returns the GOGC for the coming second, and whether memory is to be given
// back. A change of less than an eighth is not worth stopping everything for.
func (b *memoryBalance) next(live, allocated uint64) (percent int, release bool) {
	rate := allocated - b.allocated
	b.allocated = allocated
	if rate > quietRate {
		b.quiet, b.used = 0, true
	} else if b.quiet++; b.quiet == quietTicks && b.used {
		b.used, release = false, true
	}
	percent = b.room(live, rate)
	if d := percent - b.percent; 8*max(d, -d) < b.percent {
		percent = b.percent
	}
	return percent, release
}

// roomFunc returns a GOGC for a process in which live bytes are live and which
// allocates rate bytes in a second.
type roomFunc func(live, rate uint64) int

// gcPercent returns the GOGC that leaves the room for a process in which live
// bytes are live and which allocates rate bytes in a second.
func gcPercent(live, rate uint64) int {
	pause := max(leastPause, float64(live)/liveASecond)
	room := min(max(float64(rate)*pause, leastRoom), mostRoom)
	return max(1, int(room*100/float64(max(live, 1<<20))))
}

// What is allocated between two collections of a process that holds tables: four
// times what is live, as elsewhere, and no more than tablesRoom; but a third of
// what is live in any case, since that much has to be marked each time.
const tablesRoom = 96 << 20

func tablesPercent(live, _ uint64) int {
	return min(400, max(33, int(tablesRoom*100/max(live, 1<<20))))
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
