//go:build !short

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// footprint is what a process holds.
type footprint struct{ descriptors, goroutines int }

// How much more a process may hold than before a series of faults: connections
// of a pool that are spare for a while, and streams that were chosen anew. What
// leaks with each of dozens of faults is more.
const (
	moreDescriptors = 24
	moreGoroutines  = 80
)

// leaks looks at what every process holds, and returns a function that waits
// until it is about as little again.
func (w *world) leaks(t *testing.T) (check func()) {
	t.Helper()
	before := map[string]footprint{}
	for _, n := range w.Nodes() {
		f, err := footprintOf(n)
		if err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
		before[n.Name] = f
	}
	return func() {
		t.Helper()
		for _, n := range w.Nodes() {
			was := before[n.Name]
			rig.Eventually(t, n.Name+" holds no more than before", func() error {
				now, err := footprintOf(n)
				if err == nil && (now.descriptors > was.descriptors+moreDescriptors || now.goroutines > was.goroutines+moreGoroutines) {
					err = fmt.Errorf("%+v, and it was %+v", now, was)
				}
				return err
			})
		}
	}
}

func footprintOf(n *rig.Node) (footprint, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.Pid()))
	if err != nil {
		return footprint{}, err
	}
	f := footprint{descriptors: len(open)}
	if strings.HasPrefix(n.Name, "envoy") {
		return f, nil
	}
	count, err := n.Metric("go_goroutines")
	if err == nil {
		f.goroutines, err = strconv.Atoi(count)
	}
	return f, err
}
