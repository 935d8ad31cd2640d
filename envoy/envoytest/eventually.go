// Package envoytest is a rig for tests with the real Envoy: it starts one, and
// plays everybody around it: a scripted authz, back ends that tell what reached
// them, clients that send bytes no library would send, and a slow name server.
//
// Everything that a test starts ends with the test. It is imported by tests
// only.
package envoytest

import (
	"os"
	"testing"
	"time"
)

// Patience is how long the rig waits for an effect. It is no promise of speed:
// only a hang is longer.
const Patience = 30 * time.Second

// Eventually calls check until it returns nil, and fails the test with its last
// error if that does not happen in time.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still, after %v: %v", Patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Dir returns an empty folder with a path short enough for Unix sockets.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "tollgate-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
