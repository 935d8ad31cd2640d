package process

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervised runs Supervise and returns the Envoys that it starts, and how it
// ended.
func supervised(ctx context.Context, t *testing.T, mode string) (<-chan *Process, <-chan error) {
	t.Helper()
	t.Setenv(fakeEnvoy, mode)
	envoys, ended := make(chan *Process, 100), make(chan error, 1)
	opts := SuperviseOptions{
		Options:    Options{Binary: os.Args[0], Dir: t.TempDir()},
		MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		Started: func(ctx context.Context, p *Process) {
			if p.Ready(ctx) == nil {
				envoys <- p
			}
		},
	}
	go func() { ended <- Supervise(ctx, opts) }()
	return envoys, ended
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func TestSuperviseStartsAgainAndStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	envoys, ended := supervised(ctx, t, "live")
	first := receive(t, envoys)
	if err := syscall.Kill(first.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := receive(t, envoys)
	if second.Pid() == first.Pid() {
		t.Error("the same process again")
	}
	cancel()
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	gone(t, first.Pid())
	gone(t, second.Pid())
}

func TestSuperviseStopsOneThatIsNotReady(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, ended := supervised(ctx, t, "waiting")
	cancel()
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
}

func TestSuperviseGivesUpOnOneThatNeverWorked(t *testing.T) {
	_, ended := supervised(t.Context(), t, "broken")
	if err := receive(t, ended); err == nil || !strings.Contains(err.Error(), "no such field: nope") {
		t.Errorf("error %v", err)
	}
}
