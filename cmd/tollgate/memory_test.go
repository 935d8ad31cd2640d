package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Only what cannot be written is given back: the rest is not in the file.
func TestProgramMaps(t *testing.T) {
	const maps = `00400000-01a41000 r-xp 00000000 fe:01 123                                /usr/bin/tollgate
01a41000-032af000 r--p 01641000 fe:01 123                                /usr/bin/tollgate
032af000-0338f000 rw-p 02eaf000 fe:01 123                                /usr/bin/tollgate
1a20d3000000-1a20d3c00000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 fe:01 124                        /usr/lib/other.so
7ffd7e5c8000-7ffd7e5ca000 r-xp 00000000 00:00 0                          [vdso]
`
	got := programMaps(maps, "/usr/bin/tollgate")
	want := []addressRange{{0x400000, 0x1a41000}, {0x1a41000, 0x32af000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(addressRange{})); diff != "" {
		t.Error(diff)
	}
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if len(programMaps(string(own), file)) == 0 {
		t.Error("nothing of this program was found")
	}
	releaseProgram() // and this goes on
}

// The room between two collections is what is allocated in a while that grows
// with what is live, within bounds.
func TestGCPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		live, rate uint64
		want       int
	}{
		{0, 0, 400}, {1 * mb, 0, 400}, {4 * mb, 0, 100}, {32 * mb, 0, 12}, {1 << 40, 0, 1},
		{4 * mb, 40 * mb, 150}, {30 * mb, 15 * mb, 50}, {30 * mb, 100 * mb, 80}, {60 * mb, 15 * mb, 40},
	} {
		if got := gcPercent(tc.live, tc.rate); got != tc.want {
			t.Errorf("%d MiB live, %d MiB in a second: %d, want %d", tc.live/mb, tc.rate/mb, got, tc.want)
		}
	}
}

// A process that holds tables has room for what it does to them, whatever their
// size, and does not collect all the time.
func TestTablesPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		live uint64
		want int
	}{{0, 400}, {10 * mb, 400}, {24 * mb, 400}, {96 * mb, 100}, {192 * mb, 50}, {300 * mb, 33}, {1 << 40, 33}} {
		if got := tablesPercent(tc.live, 0); got != tc.want {
			t.Errorf("%d MiB live: %d, want %d", tc.live/mb, got, tc.want)
		}
	}
}

// What a load has left behind is given back once, when it is over; small changes
// are let go.
func TestMemoryBalance(t *testing.T) {
	const mb = 1 << 20
	b := memoryBalance{room: gcPercent}
	var allocated uint64
	for i, step := range []struct {
		live, more uint64
		percent    int
		release    bool
	}{
		{4 * mb, 8 * mb, 100, false}, // the start is a load as well
		{4 * mb, 0, 100, false}, {4 * mb, 0, 100, false}, {4 * mb, 0, 100, true}, {4 * mb, 0, 100, false}, {4 * mb, 0, 100, false},
		{4 * mb, 40 * mb, 150, false}, {4 * mb, 42 * mb, 150, false}, {4 * mb, 50 * mb, 187, false},
		{4 * mb, 0, 100, false}, {4 * mb, 0, 100, false}, {4 * mb, 1 * mb, 100, false}, // not yet over
		{4 * mb, 0, 100, false}, {4 * mb, 0, 100, false}, {4 * mb, 0, 100, true},
	} {
		allocated += step.more
		percent, release := b.next(step.live, allocated)
		b.percent = percent
		if percent != step.percent || release != step.release {
			t.Errorf("step %d: GOGC %d, release %t, want %d, %t", i, percent, release, step.percent, step.release)
		}
	}
}
