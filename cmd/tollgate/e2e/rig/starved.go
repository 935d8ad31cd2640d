package rig

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// machine remembers when the machine had less to give than was asked of it.
type machine struct {
	mu      sync.Mutex
	moments []moment
}

// moment is one look at the machine.
type moment struct {
	at      time.Time
	waiting float64       // threads that could run, for each processor
	late    time.Duration // by how much the look itself came late
}

const (
	lookEvery = 20 * time.Millisecond
	// A processor that this many threads want on average, or that was away for so
	// long, may leave any of them without an answer for half a second.
	starvedBy   = 2.5
	starvedLate = 100 * time.Millisecond
	// A call may have been held up by what came before it.
	starvedBefore = time.Second
	// A call that is refused sooner was refused by somebody who ran.
	tooLate = 250 * time.Millisecond
)

func (m *machine) watch(ctx context.Context) {
	tick := time.NewTimer(lookEvery)
	defer tick.Stop()
	for {
		from := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		m.mu.Lock()
		m.moments = append(m.moments, moment{now, runnable() / float64(runtime.NumCPU()), max(0, now.Sub(from)-lookEvery)})
		m.mu.Unlock()
		tick.Reset(lookEvery)
	}
}

// starved reports whether the machine was short of processors from one second
// before a call until its end.
func (m *machine) starved(c Call) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n, waiting float64
	var late time.Duration
	for _, x := range m.moments {
		if x.at.After(c.Start.Add(-starvedBefore)) && x.at.Before(c.End) {
			n, waiting, late = n+1, waiting+x.waiting, late+x.late
		}
	}
	return late > starvedLate || n > 0 && waiting/n > starvedBy
}

// runnable is how many threads of this machine run or could run; 0 where the
// system does not say.
func runnable() float64 {
	data, err := os.ReadFile("/proc/loadavg") // "0.20 0.18 0.12 1/80 11206"
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 4 {
		return 0
	}
	running, _, _ := strings.Cut(fields[3], "/")
	n, err := strconv.ParseFloat(running, 64)
	if err != nil {
		return 0
	}
	return n
}
