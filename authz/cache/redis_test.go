package cache

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"tollgate/keymanager"
)

// redisRig is one gateway's Redis level and how to look into it. Its look-ups
// get all the time they need: that they are cut off is tested apart.
type redisRig struct {
	*Redis
	clock *clock
	calls *validator
	log   *logLines
}

// logLines keeps what is logged.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func redisKeys(t testing.TB) *RedisKeys {
	t.Helper()
	return parseKeys(t, keyFile(t))
}

func keyFile(t testing.TB) []byte {
	t.Helper()
	file, err := NewRedisKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func parseKeys(t testing.TB, file []byte) *RedisKeys {
	t.Helper()
	keys, err := ParseRedisKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// newRedisRig returns a level at address whose key manager answers with answer.
// It runs until the test ends.
func newRedisRig(t testing.TB, address string, keys *RedisKeys, answer func(keymanager.Query) (*keymanager.Verdict, error)) *redisRig {
	t.Helper()
	client, err := NewRedisClient(RedisServer{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	return newRedisRigWith(t, client, keys, answer, func(r *redisRig) { r.timeout = 30 * time.Second })
}

func newRedisRigWith(t testing.TB, client redis.UniversalClient, keys *RedisKeys, answer func(keymanager.Query) (*keymanager.Verdict, error), change func(*redisRig)) *redisRig {
	t.Helper()
	rig := &redisRig{clock: newClock(), log: new(logLines)}
	rig.calls = &validator{f: func(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) { return answer(q) }}
	var err error
	rig.Redis, err = NewRedis(RedisOptions{Next: rig.calls, Client: client, Keys: keys, Now: rig.clock.Now, Rand: rand.Reader,
		Logger: slog.New(slog.NewTextHandler(rig.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	change(rig)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rig.Run(ctx) }()
	eventually(t, "start of Run", rig.running.Load)
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		client.Close()
	})
	return rig
}

func (r *redisRig) ask(t testing.TB, q keymanager.Query) *keymanager.Verdict {
	t.Helper()
	v, err := r.Validate(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *redisRig) result(i redisResult) uint64 { return r.figures.lookups[i].Load() }

// written waits until n values have been written.
func (r *redisRig) written(t testing.TB, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d writes", n), func() bool { return r.figures.writes[writeDone].Load() >= n })
}

// eventually waits until something has come true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in 30 s", what)
		}
	}
}

// live is the verdict about a live credential.
func liveVerdict(head uint64) *keymanager.Verdict {
	return &keymanager.Verdict{Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: keymanager.TokenID{1},
		IssuedAt: time.Unix(1_600_000_000, 5).UTC(), Head: position(head), Grant: grantFor(1)}
}

func always(v *keymanager.Verdict) func(keymanager.Query) (*keymanager.Verdict, error) {
	return func(keymanager.Query) (*keymanager.Verdict, error) { return v, nil }
}

// TestRedis: two gateways share a Redis; the second asks no key manager for
// what the first has learned, as long as it holds.
func TestRedis(t *testing.T) {
	with := func(f func(*keymanager.Verdict, *clock)) func(*clock) *keymanager.Verdict {
		return func(c *clock) *keymanager.Verdict { v := liveVerdict(10); f(v, c); return v }
	}
	active := with(func(*keymanager.Verdict, *clock) {})
	for _, tt := range []struct {
		name    string
		verdict func(*clock) *keymanager.Verdict
		err     error
		wait    time.Duration
		since   keymanager.Position
		unsaved bool
		want    redisResult
	}{
		{name: "active", verdict: active, want: resultHit},
		{name: "active, before its time", verdict: active, wait: 13 * time.Minute, want: resultHit},
		{name: "active, after its time", verdict: active, wait: 17 * time.Minute, want: resultOutdated},
		{name: "expires sooner, before", verdict: with(func(v *keymanager.Verdict, c *clock) { v.ExpiresAt = c.Now().Add(time.Minute) }), wait: 59 * time.Second, want: resultHit},
		{name: "expires sooner, then", verdict: with(func(v *keymanager.Verdict, c *clock) { v.ExpiresAt = c.Now().Add(time.Minute) }), wait: time.Minute, want: resultOutdated},
		{name: "expired already", verdict: with(func(v *keymanager.Verdict, c *clock) { v.ExpiresAt = c.Now() }), unsaved: true, want: resultMiss},
		{name: "since before it", verdict: active, since: position(9), want: resultHit},
		{name: "since then", verdict: active, since: position(10), want: resultHit},
		{name: "since later", verdict: active, since: position(11), want: resultOutdated},
		{name: "since another epoch", verdict: active, since: keymanager.Position{Epoch: keymanager.Epoch{2}, Seq: 1}, want: resultOutdated},
		{name: "unknown credential", verdict: with(func(v *keymanager.Verdict, _ *clock) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), wait: 8 * time.Second, want: resultNegative},
		{name: "unknown credential, later", verdict: with(func(v *keymanager.Verdict, _ *clock) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), wait: 12 * time.Second, want: resultOutdated},
		{name: "unknown credential, since later", verdict: with(func(v *keymanager.Verdict, _ *clock) { v.Reason, v.Grant = keymanager.ReasonNoSuchCredential, nil }), since: position(11), want: resultOutdated},
		{name: "expired", verdict: with(func(v *keymanager.Verdict, c *clock) {
			v.Reason, v.ExpiresAt = keymanager.ReasonExpired, c.Now().Add(-time.Hour)
		}), want: resultNegative},
		{name: "revoked", verdict: with(func(v *keymanager.Verdict, _ *clock) { v.Reason = keymanager.ReasonRevoked }), want: resultNegative},
		{name: "nothing decided", verdict: with(func(v *keymanager.Verdict, _ *clock) { v.Reason = keymanager.ReasonUnknown }), unsaved: true, want: resultMiss},
		{name: "error", verdict: func(*clock) *keymanager.Verdict { return nil }, err: errAway, unsaved: true, want: resultMiss},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := miniredis.RunT(t)
			keys := redisKeys(t)
			var verdict *keymanager.Verdict
			answer := func(keymanager.Query) (*keymanager.Verdict, error) { return verdict, tt.err }
			a, b := newRedisRig(t, server.Addr(), keys, answer), newRedisRig(t, server.Addr(), keys, answer)
			verdict = tt.verdict(a.clock)
			q := query("t")
			got, err := a.Validate(t.Context(), q)
			if (err != nil) != (tt.err != nil) || got != verdict {
				t.Fatalf("the first answer is %v, %v", got, err)
			}
			if tt.unsaved {
				if n := len(a.writes) + int(a.figures.writes[writeDone].Load()); n != 0 {
					t.Errorf("%d values are written", n)
				}
			} else {
				a.written(t, 1)
			}
			b.clock.advance(tt.wait)
			q.Since = tt.since
			got, err = b.Validate(t.Context(), q)
			if (err != nil) != (tt.err != nil) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(verdict, got, cmp.Comparer(samePrefix)); diff != "" {
				t.Errorf("the second answer differs:\n%s", diff)
			}
			if b.result(tt.want) != 1 {
				t.Errorf("the look-up ended otherwise than with %s: %v", resultNames[tt.want], b.outcomes())
			}
			hit := tt.want == resultHit || tt.want == resultNegative
			if n := b.calls.calls.Load(); (n == 0) != hit {
				t.Errorf("%d calls of the key manager", n)
			}
		})
	}
}

func (r *redisRig) outcomes() string {
	var b strings.Builder
	for i, name := range resultNames {
		if n := r.result(redisResult(i)); n > 0 {
			fmt.Fprintf(&b, "%s %d ", name, n)
		}
	}
	return b.String()
}

// TestRedisLife: a value leaves Redis by itself, negatives soon.
func TestRedisLife(t *testing.T) {
	server := miniredis.RunT(t)
	var verdict *keymanager.Verdict
	r := newRedisRig(t, server.Addr(), redisKeys(t), func(keymanager.Query) (*keymanager.Verdict, error) { return verdict, nil })
	for i, tt := range []struct {
		verdict     keymanager.Verdict
		least, most time.Duration
	}{
		{keymanager.Verdict{Reason: keymanager.ReasonActive}, 13*time.Minute + 30*time.Second - time.Minute, 16*time.Minute + 30*time.Second},
		{keymanager.Verdict{Reason: keymanager.ReasonActive, ExpiresAt: r.clock.Now().Add(time.Minute)}, 59 * time.Second, time.Minute},
		{keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}, 8 * time.Second, 11 * time.Second},
	} {
		verdict = &tt.verdict
		q := query(fmt.Sprint(i))
		r.ask(t, q)
		r.written(t, uint64(i+1))
		p := r.keys.current.place(q)
		if ttl := server.TTL(p.name); ttl < tt.least || ttl > tt.most {
			t.Errorf("%d: lives %s, want %s to %s", i, ttl, tt.least, tt.most)
		}
	}
}

// TestRedisShowsNothing: neither keys nor values tell of credentials.
func TestRedisShowsNothing(t *testing.T) {
	server := miniredis.RunT(t)
	r := newRedisRig(t, server.Addr(), redisKeys(t), always(liveVerdict(1)))
	const secret = "tgat_very_secret_value"
	r.ask(t, query(secret))
	r.ask(t, query(secret+"2"))
	r.written(t, 2)
	if keys := server.Keys(); len(keys) != 2 || !strings.HasPrefix(keys[0], RedisPrefix) || len(keys[0]) != nameLength {
		t.Errorf("the keys are %q", keys)
	}
	for _, text := range []string{server.Dump(), r.log.String()} {
		for _, leak := range []string{secret, "PRIMARY/jane", "application-1", base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(text, leak) {
				t.Errorf("%q is shown", leak)
			}
		}
	}
}

// TestRedisRotation: gateways with the old file, the new one, and the one after
// never take a value for anything but what it is.
func TestRedisRotation(t *testing.T) {
	server := miniredis.RunT(t)
	first := keyFile(t)
	second, err := RotateRedisKeys(first, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	third, err := RotateRedisKeys(second, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var rigs []*redisRig
	for _, file := range [][]byte{first, second, third} {
		rigs = append(rigs, newRedisRig(t, server.Addr(), parseKeys(t, file), always(liveVerdict(1))))
	}
	for writer, w := range rigs {
		for reader, r := range rigs {
			q := query(fmt.Sprint(writer, reader))
			w.ask(t, q)
			w.written(t, w.figures.writes[writeDone].Load())
			eventually(t, "value", func() bool { return server.Exists(w.keys.current.place(q).name) })
			before := r.calls.calls.Load()
			r.ask(t, q)
			known := r.calls.calls.Load() == before
			if want := writer == reader || reader == writer+1; known != want {
				t.Errorf("what file %d wrote is known to file %d: %t, want %t", writer+1, reader+1, known, want)
			}
		}
	}
	for i, r := range rigs {
		if r.result(resultDamaged) != 0 {
			t.Errorf("file %d found damage", i+1)
		}
	}
}

// TestAnswersDoNotWaitForWrites: they come while nothing is written, and what
// waits to be is bounded.
func TestAnswersDoNotWaitForWrites(t *testing.T) {
	server := miniredis.RunT(t)
	client, err := NewRedisClient(RedisServer{Addresses: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	next := &validator{f: func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return liveVerdict(1), nil }}
	r, err := NewRedis(RedisOptions{Next: next, Client: client, Keys: redisKeys(t), Now: newClock().Now, Rand: rand.Reader,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.timeout = 30 * time.Second
	if _, err := r.Validate(t.Context(), query("t")); err != nil || r.figures.lookups[resultSkipped].Load() != 1 {
		t.Fatalf("without Run: %v, %d skipped", err, r.figures.lookups[resultSkipped].Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var lane sync.WaitGroup
	lane.Go(func() { r.lanes.run(ctx) })
	defer lane.Wait()
	defer cancel()
	r.running.Store(true)
	for i := range maxRedisWrites + 10 {
		if _, err := r.Validate(t.Context(), query(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.figures.writes[writeDropped].Load(); n != 10 {
		t.Errorf("%d writes were dropped, want 10", n)
	}
}
