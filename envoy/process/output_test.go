package process

import (
	"errors"
	"testing"
)

// full is a disk that takes nothing any more.
type full struct{ asked chan struct{} }

func (f full) Write([]byte) (int, error) {
	select {
	case f.asked <- struct{}{}:
	default:
	}
	return 0, errors.New("no space left on device")
}

// A log that cannot be written does not stop Envoy, whose pipe is still read.
func TestAFullDiskDoesNotStopEnvoy(t *testing.T) {
	disk := full{make(chan struct{}, 1)}
	p := start(t, "chatty", func(o *Options) { o.Log, o.Output = disk, disk })
	receive(t, disk.asked)
	if err := p.Ready(within(t)); err != nil { // it says more than a pipe holds before
		t.Error(err)
	}
}
