//go:build !short

package redistest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServer: a server can be killed, hung and started again, with what it
// saved and without what it did not.
func TestServer(t *testing.T) {
	for _, tls := range []bool{false, true} {
		s := Start(t, Options{TLS: tls, ACL: []string{"user jane on >pw ~a:* +get"}})
		c := s.Client()
		do := func(args ...any) {
			t.Helper()
			if err := c.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		do("set", "kept", "1")
		do("save")
		do("set", "lost", "1")
		s.Kill()
		if c.Ping(t.Context()).Err() == nil {
			t.Fatal("a killed server answers")
		}
		s.Restart()
		if v, err := c.Get(t.Context(), "kept").Result(); err != nil || v != "1" {
			t.Errorf("what was saved is %q, %v", v, err)
		}
		if _, err := c.Get(t.Context(), "lost").Result(); !errors.Is(err, redis.Nil) {
			t.Errorf("what was not saved: %v", err)
		}
		s.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if c.Ping(ctx).Err() == nil {
			t.Error("a stopped server answers")
		}
		cancel()
		s.Cont()
		eventually(t, "answer", func(ctx context.Context) bool { return c.Ping(ctx).Err() == nil })
	}
}

func TestSentinel(t *testing.T) {
	set := Sentinel(t, SentinelOptions{})
	set.AwaitMaster(set.Servers[0])
	set.Servers[0].Kill()
	set.AwaitMaster(set.Servers[1])
}

func TestCluster(t *testing.T) {
	c := Cluster(t)
	if len(c.Addresses()) != 3 {
		t.Errorf("addresses %v", c.Addresses())
	}
	c.Servers[1].Kill()
	c.Servers[1].Restart()
	c.Await(t)
}
