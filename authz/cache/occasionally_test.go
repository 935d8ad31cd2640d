package cache

import (
	"testing"
	"time"
)

func TestOccasionally(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var o occasionally
	for i, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Second, false}, {9 * time.Second, false}, {10 * time.Second, true}, {11 * time.Second, false}, {-time.Hour, true}} {
		if got := o.due(start.Add(tt.after)); got != tt.want {
			t.Errorf("%d: after %v: %v, want %v", i, tt.after, got, tt.want)
		}
	}
}
