//go:build soak

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// The course of the soak. The first quarter restarts every process once; in the
// rest of it the witnesses, one of each role, run on, and are held to be flat.
const (
	soakTokenLife = time.Minute
	soakSettle    = 3 * time.Second // a change answered, until it holds everywhere: far more than is promised
	soakLongest   = time.Minute     // the same, with disturbances one after another
	soakEvery     = 40 * time.Second
	soakSample    = 5 * time.Second
	soakRamp      = time.Minute
)

// soakWorld is what the soak begins with: an API that stays and its subscriber;
// ten APIs whose subscription is blocked and unblocked, and theirs. Ten more
// APIs come, change and go. The subscribers are two, because whatever changes in
// the subscriptions of an application has gateways ask for its tokens again.
func soakWorld(production string) string {
	m := `
{kind: User, organization: default, name: alice, spec: {}}
---
{kind: Application, organization: default, name: buyer, spec: {owner: alice}}
---
{kind: Key, organization: default, name: buyer/PRODUCTION, spec: {}}
---
{kind: Application, organization: default, name: mover, spec: {owner: alice}}
---
{kind: Key, organization: default, name: mover/PRODUCTION, spec: {}}
---
{kind: API, organization: default, name: shop, spec: {version: 1.0.0, context: /shop, state: PUBLISHED, production: ["http://` + production + `"],
  tiers: [Unlimited], resources: [{method: GET, path: /items}, {method: GET, path: /admin, scopes: ["shop:admin"]}, {method: POST, path: /items, scopes: ["shop:write"]}]}}
---
{kind: Subscription, organization: default, name: buyer-shop, spec: {application: buyer, api: shop/1.0.0, tier: Unlimited}}
`
	// A scope that mover can ask for: a token for which none is asked has all.
	m += "---\n" + strings.Replace(churnAPI("base", production, false), "resources: [", `resources: [{method: POST, path: /items, scopes: ["base:write"]}, `, 1) +
		"---\n" + churnSubscription("base", "UNBLOCKED")
	for i := range soakItems {
		name := fmt.Sprint("sub", i)
		m += "---\n" + churnAPI(name, production, false) + "---\n" + churnSubscription(name, "UNBLOCKED")
	}
	return m
}

// soak is one run.
type soak struct {
	*rig.Fleet
	t       testing.TB
	minutes time.Duration
	began   time.Time
	stolen  time.Duration // processor time taken by the host before it began
	report  soakReport

	mu      sync.Mutex
	pids    map[string]int // of the processes that run, by name
	born    map[string]time.Time
	faults  []soakFault
	starved []soakFault    // when this process itself was kept waiting
	lives   map[string]int // how often each was restarted
}

// soakFault is a time in which something was restarted. To is zero while it is.
type soakFault struct {
	what     string
	from, to time.Time
}

// TestSoak is not a test of one thing: half an hour (SOAK_MINUTES) at half of
// the rate that the machine bears, while everything changes and every process
// is restarted. It writes what it saw to SOAK_OUT.md, .svg and .csv.
func TestSoak(t *testing.T) {
	out := os.Getenv("SOAK_OUT")
	if out == "" {
		t.Fatal("SOAK_OUT is not set: run make soak")
	}
	minutes, err := strconv.Atoi(os.Getenv("SOAK_MINUTES"))
	if err != nil || minutes < 4 || minutes > 480 {
		t.Fatalf("SOAK_MINUTES is %q: want 4 to 480", os.Getenv("SOAK_MINUTES"))
	}
	info := []string{"LOG_LEVEL=info"}
	s := &soak{
		t: t, minutes: time.Duration(minutes) * time.Minute, pids: map[string]int{}, born: map[string]time.Time{}, lives: map[string]int{},
		Fleet: rig.NewFleet(t, map[string][]string{
			"keymanager": {"LOG_LEVEL=info", "KEYMANAGER_TOKEN_LIFETIME=" + soakTokenLife.String()}, "xds": info, "authz": info,
		}),
	}
	backend(t, s.Production)
	for _, n := range s.Nodes() {
		s.started(n)
	}
	clients := s.Fleet.Admin(t).Apply(t, soakWorld(s.Production))
	world := newSoakTokens(s, clients["buyer/PRODUCTION"], clients["mover/PRODUCTION"])
	world.run()
	load := newSoakLoad(s, world)
	load.ready()

	s.began, s.stolen, s.report.busy[0] = time.Now(), stolen(), loadAverages()
	samples := newSampler(s)
	world.churn.Store(true)
	knee := load.knee()
	s.report.knee, s.report.rate = knee, knee/2
	t.Logf("the knee is at %d calls a second, the soak runs at %d", knee, knee/2)
	s.mu.Lock()
	s.report.load = load
	s.mu.Unlock()
	load.start(knee / 2)
	s.restart()
	world.stop()
	load.stop()
	samples.stop()
	s.report.busy[1] = loadAverages()
	s.report.write(t, s, load, world, samples, out)
}

// restart restarts one thing after another until the time is over. It runs in
// the goroutine of the test, for whose failures rig needs it.
func (s *soak) restart() {
	s.t.Helper()
	end := s.began.Add(s.minutes)
	quarter := s.began.Add(s.minutes / 4)
	first, rest := s.plan()
	every := min(soakEvery, s.minutes/4/time.Duration(len(first)+2))
	for i := 0; ; i++ {
		time.Sleep(min(every, time.Until(end)))
		now := time.Now()
		if end.Sub(now) < 30*time.Second { // what is left is quiet
			time.Sleep(time.Until(end))
			return
		}
		if i < len(first) && now.Before(quarter) {
			first[i](i%2 == 0)
		} else {
			every = soakEvery
			rest[i%len(rest)]((i/len(rest)+i)%2 == 0)
		}
	}
}

// plan returns what is restarted in the first quarter (everything, the
// witnesses first) and later. The argument says whether it is killed.
func (s *soak) plan() (first, rest []func(kill bool)) {
	var others []func(bool)
	for i := range s.Nodes() {
		n := s.Nodes()[i]
		f := func(kill bool) { s.restartNode(n, kill) }
		if witness(n.Name) {
			first = append(first, f)
		} else {
			others = append(others, f)
		}
	}
	others = append(others, func(bool) {
		s.during("redis", func() { s.Redis.Kill(); time.Sleep(2 * time.Second); s.Redis.Restart() })
	}, func(kill bool) {
		s.during("postgres", func() {
			if kill {
				s.Postgres.Kill()
			} else {
				s.Postgres.Shutdown()
			}
			time.Sleep(2 * time.Second)
			s.Postgres.Start()
		})
	})
	return append(first, others...), others
}

// witness is one of each role that is not restarted after the first quarter.
func witness(name string) bool { return name[len(name)-2:] == "-1" }

func (s *soak) restartNode(n *rig.Node, kill bool) {
	s.during(n.Name, func() {
		s.gone(n)
		if kill {
			n.Kill()
		} else {
			n.Signal(syscall.SIGTERM)
			_ = n.Wait() // Envoy tells of the signal
		}
		n.Start()
		s.started(n)
		n.Ready()
	})
}

// during does something and keeps when it was.
func (s *soak) during(what string, do func()) {
	s.mu.Lock()
	s.faults = append(s.faults, soakFault{what: what, from: time.Now()})
	i := len(s.faults) - 1
	s.mu.Unlock()
	do()
	s.mu.Lock()
	s.faults[i].to = time.Now()
	s.lives[what]++
	s.mu.Unlock()
}

func (s *soak) started(n *rig.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[n.Name], s.born[n.Name] = n.Pid(), time.Now()
}

func (s *soak) gone(n *rig.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pids, n.Name)
}

// settled reports whether at a moment that which was answered at another has to
// hold: some seconds in which nothing was restarted, and the machine was there
// for us, lie between them; or a minute, whatever happened.
func (s *soak) settled(answered, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for quiet, since := false, answered; ; {
		if now.After(answered.Add(soakLongest)) {
			return true
		}
		if quiet {
			return now.After(since.Add(soakSettle))
		}
		quiet = true
		for _, disturbances := range [][]soakFault{s.faults, s.starved} {
			for i := len(disturbances) - 1; i >= 0; i-- {
				f := disturbances[i]
				if !f.to.IsZero() && !f.to.After(since) {
					break // and those before it
				}
				if f.from.Before(since.Add(soakSettle)) {
					if f.to.IsZero() {
						return false
					}
					since, quiet = f.to, false
				}
			}
		}
	}
}

// excuse returns what was restarted during a call (or just before), if that may
// leave a call at a gateway without a decision: its own authz and Envoy, and
// for a token that the gateway has not seen what it would have to ask. A machine
// that keeps even this process waiting is told apart.
func (s *soak) excuse(gateway int, known bool, from, to time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.faults) - 1; i >= 0; i-- {
		f := s.faults[i]
		if f.from.After(to) || !f.to.IsZero() && f.to.Add(soakSettle).Before(from) {
			continue
		}
		switch f.what {
		case fmt.Sprint("authz-", gateway+1), fmt.Sprint("envoy-", gateway+1):
			return f.what
		case "postgres", "keymanager-1", "keymanager-2":
			if !known {
				return f.what
			}
		}
	}
	for i := len(s.starved) - 1; i >= 0 && s.starved[i].to.Add(time.Second).After(from); i-- {
		if s.starved[i].from.Before(to) {
			return s.starved[i].what
		}
	}
	return ""
}

// lastStart returns when the authz and the Envoy of a gateway began.
func (s *soak) lastStart(gateway int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.born[fmt.Sprint("authz-", gateway+1)]
}
