//go:build !short

package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"tollgate/authz/cache/redistest"
	"tollgate/authz/revoked"
	"tollgate/keymanager"
)

// issuer is a key manager: its tokens are whatever is asked for and not
// revoked. Every gateway follows it.
type issuer struct {
	mu      sync.Mutex
	head    uint64
	revoked map[string]bool
	sets    []*revoked.Set
	away    atomic.Bool
	calls   atomic.Int64
}

func newIssuer() *issuer { return &issuer{head: 10, revoked: map[string]bool{}} }

func tokenID(value string) keymanager.TokenID {
	sum := sha256.Sum256([]byte(value))
	return keymanager.TokenID(sum[:])
}

func (k *issuer) validate(q keymanager.Query) (*keymanager.Verdict, error) {
	k.calls.Add(1)
	if k.away.Load() {
		return nil, errAway
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v := liveVerdict(k.head)
	v.TokenID, v.ExpiresAt = tokenID(q.Credential.Value), time.Now().Add(time.Hour)
	v.Grant.User = q.Credential.Value
	if k.revoked[q.Credential.Value] {
		v.Reason = keymanager.ReasonRevoked
	}
	return v, nil
}

// follow lets set know what is revoked, now and later.
func (k *issuer) follow(t testing.TB, set *revoked.Set) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	at := position(k.head)
	events := []keymanager.Event{{Mark: keymanager.Mark{Type: keymanager.SnapshotBegin, At: at, After: at}}}
	for value := range k.revoked {
		events = append(events, keymanager.Event{Mark: keymanager.Mark{Type: keymanager.Item, At: at, After: at}, Dead: &keymanager.Dead{TokenID: tokenID(value)}})
	}
	events = append(events, keymanager.Event{Mark: keymanager.Mark{Type: keymanager.SnapshotEnd, At: at, After: at}})
	for _, e := range events {
		if err := set.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	k.sets = append(k.sets, set)
}

// publish writes an event, which takes effect at every gateway before it
// returns.
func (k *issuer) publish(t testing.TB, e keymanager.Event) {
	t.Helper()
	e.Mark = keymanager.Mark{Type: keymanager.Item, At: position(k.head + 1), After: position(k.head)}
	k.head++
	for _, set := range k.sets {
		if err := set.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *issuer) revoke(t testing.TB, value string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked[value] = true
	k.publish(t, keymanager.Event{Dead: &keymanager.Dead{TokenID: tokenID(value)}})
}

// gateway decides as authz does, with every level before the key manager.
type gateway struct {
	*redisRig
	lru    *LRU
	flight *Flight
	set    *revoked.Set
}

// newGateway starts one whose time is real and whose look-ups take what change
// says.
func newGateway(t testing.TB, client redis.UniversalClient, keys *RedisKeys, k *issuer, change func(*redisRig)) *gateway {
	t.Helper()
	g := &gateway{set: revoked.New(0)}
	g.redisRig = newRedisRigWith(t, client, keys, k.validate, func(r *redisRig) {
		r.now = time.Now
		if change != nil {
			change(r)
		}
	})
	var err error
	if g.flight, err = NewFlight(FlightOptions{Next: g.Redis, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if g.lru, err = NewLRU(LRUOptions{Next: g.flight, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	k.follow(t, g.set)
	return g
}

// patient gives look-ups all the time that a busy machine needs.
func patient(r *redisRig) { r.timeout = 30 * time.Second }

var errRefused = errors.New("refused")

// decide returns nil for a pass, errRefused, or why nothing is known.
func (g *gateway) decide(t testing.TB, value string) error {
	t.Helper()
	q := query(value)
	for range 2 {
		v, err := g.lru.Validate(t.Context(), q)
		if err != nil {
			return err
		}
		if v.TokenID != tokenID(value) || v.Grant.User != value {
			t.Errorf("the verdict about %s is one about %s", value, v.Grant.User)
		}
		switch g.set.Check(v, q.API) {
		case revoked.Stale:
			q.Since = g.set.Newer(v)
			continue
		case revoked.Live:
			if v.Reason == keymanager.ReasonActive {
				return nil
			}
		}
		return errRefused
	}
	return errRefused
}

func (g *gateway) passes(t testing.TB, values ...string) {
	t.Helper()
	for _, value := range values {
		if err := g.decide(t, value); err != nil {
			t.Errorf("%s: %v, want a pass", value, err)
		}
	}
}

func (g *gateway) refuses(t testing.TB, values ...string) {
	t.Helper()
	for _, value := range values {
		if err := g.decide(t, value); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v, want a refusal", value, err)
		}
	}
}

// uses waits until Redis gives verdicts again: it keeps asking, each time for
// what is in no memory but its own.
func (g *gateway) uses(t testing.TB) {
	t.Helper()
	before, n := g.result(resultHit), 0
	eventually(t, "verdict from Redis", func() bool {
		n++
		if v, err := g.Redis.Validate(t.Context(), query("probe")); err != nil || v.TokenID != tokenID("probe") {
			t.Fatalf("%v, %v", v, err)
		}
		return g.result(resultHit) > before
	})
}

// bypasses waits until Redis is not asked any more, asking all the time.
func (g *gateway) bypasses(t testing.TB) {
	t.Helper()
	n := 0
	eventually(t, "bypass", func() bool {
		n++
		g.passes(t, fmt.Sprint("bypass", n))
		return g.breaker.isOpen()
	})
}

// logged checks that something was told, but not for every request, and nothing
// secret with it.
func (g *gateway) logged(t testing.TB, what string) {
	t.Helper()
	eventually(t, what, func() bool { return strings.Contains(g.log.String(), what) })
	if got := strings.Count(g.log.String(), what); got > 6 { // one in ten seconds
		t.Errorf("%q was logged %d times:\n%s", what, got, g.log)
	}
	if strings.Contains(strings.ReplaceAll(g.log.String(), "~"+RedisPrefix, ""), RedisPrefix) {
		t.Errorf("the log shows keys:\n%s", g.log)
	}
}

func names(prefix string, n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

func singleClient(t testing.TB, address string) redis.UniversalClient {
	t.Helper()
	client, err := NewRedisClient(RedisServer{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func startRedis(t testing.TB) *redistest.Server {
	t.Helper()
	return redistest.Start(t, redistest.Options{})
}
