package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Shot is one kind of call of a Load, with the answer that is right.
type Shot struct {
	Name    string
	Gateway string // host:port
	Path    string
	Header  http.Header
	Status  int    // the one right answer, apart from 503
	Code    string // of a refusal
}

// Call is what became of one call. Start is when it was due, not when the
// machine came to it: a stall of the system under test is seen whole.
type Call struct {
	Shot       *Shot
	Start, End time.Time
	Status     int    // 0 = no answer
	Code       string // of a refusal
	Err        error  // without an answer
}

// Verdict sorts a call: as it should be, not decided (503, or no answer), or
// wrong.
type Verdict int

// The verdicts.
const (
	Right Verdict = iota
	Unavailable
	Wrong
)

// Judge holds the call against the answer that is right. A 502 or 504 of a
// protected call is wrong: the back end is there.
func (c Call) Judge() Verdict {
	switch {
	case c.Status == c.Shot.Status && c.Code == c.Shot.Code:
		return Right
	case c.Status == 0, c.Status == http.StatusServiceUnavailable:
		return Unavailable
	default:
		return Wrong
	}
}

// Load sends calls at a fixed rate, whatever becomes of them (open loop), in
// turn over its shots. It keeps the history of every call.
type Load struct {
	t     testing.TB
	shots []Shot
	http  *http.Client
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu      sync.Mutex
	history []Call
	only    func(*Shot) bool

	machine machine
}

// maxInFlight bounds what a stalled system can pile up.
const maxInFlight = 2000

// StartLoad starts a load of rate calls a second. It ends with the test, or
// with End.
func StartLoad(t testing.TB, rate int, shots []Shot) *Load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{t: t, shots: slices.Clone(shots), stop: cancel}
	client := &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, DisableCompression: true,
			// an Envoy that is gone must not be asked for a connection for ever
			ResponseHeaderTimeout: 10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	l.http = client
	l.ended.Go(func() { l.machine.watch(ctx) })
	l.ended.Go(func() { l.run(ctx, client, time.Second/time.Duration(rate)) })
	t.Cleanup(func() {
		l.End()
		client.CloseIdleConnections()
	})
	return l
}

func (l *Load) run(ctx context.Context, client *http.Client, every time.Duration) {
	free := make(chan struct{}, maxInFlight)
	due := time.Now()
	for i := 0; ; i++ {
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		if shot, start := &l.shots[i%len(l.shots)], due; l.wanted(shot) {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			l.ended.Go(func() {
				defer func() { <-free }()
				l.keep(shoot(client, shot, start))
			})
		}
		// A driver that was itself held up does not make up for it in a burst.
		if due = due.Add(every); time.Since(due) > time.Second {
			due = time.Now()
		}
	}
}

func shoot(client *http.Client, s *Shot, start time.Time) Call {
	c := Call{Shot: s, Start: start}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.Gateway+s.Path, nil)
	if err != nil {
		c.Err, c.End = err, time.Now()
		return c
	}
	req.Header = s.Header.Clone()
	res, err := client.Do(req)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
		_ = res.Body.Close()
		if c.Status = res.StatusCode; c.Status >= 300 {
			c.Code = Answer{Body: string(body)}.Code()
		}
	}
	c.Err, c.End = err, time.Now()
	return c
}

func (l *Load) keep(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = append(l.history, c)
}

// Only has the load leave out the shots that pick does not accept, until it is
// called again (nil = none is left out).
func (l *Load) Only(pick func(*Shot) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.only = pick
}

// CloseIdle closes the connections that no call uses.
func (l *Load) CloseIdle() { l.http.CloseIdleConnections() }

func (l *Load) wanted(s *Shot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.only == nil || l.only(s)
}

// End ends the load and waits for the calls in flight.
func (l *Load) End() {
	l.stop()
	l.ended.Wait()
}

// Calls returns the calls that began at or after from and have ended.
func (l *Load) Calls(from time.Time) []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Call
	for _, c := range l.history {
		if !c.Start.Before(from) {
			out = append(out, c)
		}
	}
	return out
}

// Flows waits until the last n calls of each shot that pick accepts (nil = all)
// were all right: the system has recovered, or has not been hurt.
func (l *Load) Flows(n int, pick func(*Shot) bool) {
	l.t.Helper()
	from := time.Now()
	Eventually(l.t, fmt.Sprintf("the last %d calls of each kind are right", n), func() error {
		good := map[*Shot]int{}
		last := map[*Shot]Call{}
		calls := l.Calls(from)
		slices.SortFunc(calls, func(a, b Call) int { return a.Start.Compare(b.Start) })
		for _, c := range calls {
			last[c.Shot] = c
			if good[c.Shot]++; c.Judge() != Right {
				good[c.Shot] = 0
			}
		}
		for i := range l.shots {
			if s := &l.shots[i]; (pick == nil || pick(s)) && good[s] < n {
				return fmt.Errorf("%s at %s: %d in a row; the last was %d %s %v", s.Name, s.Gateway, good[s], last[s].Status, last[s].Code, last[s].Err)
			}
		}
		return nil
	})
}

// NoneWrong fails the test for each kind of wrong answer since from: an allowed
// call that should not be, a refused one that should not be. It returns how
// many calls were right and how many undecided.
func (l *Load) NoneWrong(from time.Time) (right, unavailable int) {
	l.t.Helper()
	wrong := map[string]int{}
	for _, c := range l.Calls(from) {
		switch c.Judge() {
		case Right:
			right++
		case Unavailable:
			unavailable++
		case Wrong:
			wrong[fmt.Sprintf("%s at %s: %d %s, want %d %s", c.Shot.Name, c.Shot.Gateway, c.Status, c.Code, c.Shot.Status, c.Shot.Code)]++
		}
	}
	for what, n := range wrong {
		l.t.Errorf("%d × %s", n, what)
	}
	return right, unavailable
}

// AllRight fails the test for every call since from that pick accepts (nil =
// all) and that was not right: no outage is allowed there. What came late for
// want of processors is none, if it is the exception.
func (l *Load) AllRight(from time.Time, pick func(*Shot) bool) {
	l.t.Helper()
	bad, all, excused := map[string]int{}, 0, map[string]int{}
	for _, c := range l.Calls(from) {
		if pick != nil && !pick(c.Shot) {
			continue
		}
		all++
		if c.Judge() != Right {
			says := bad
			if c.Status == http.StatusServiceUnavailable && c.End.Sub(c.Start) >= tooLate && l.machine.starved(c) {
				says = excused
			}
			says[fmt.Sprintf("%s at %s: %d %s %v", c.Shot.Name, c.Shot.Gateway, c.Status, c.Code, c.Err)]++
		}
	}
	late := 0
	for _, n := range excused {
		late += n
	}
	if late*10 > all {
		for what, n := range excused {
			bad[what] += n
		}
	} else if late > 0 {
		l.t.Logf("%d of %d calls are undecided for want of processors", late, all)
	}
	for what, n := range bad {
		l.t.Errorf("%d × %s", n, what)
	}
}

// Bearer returns the header of an access token.
func Bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

// At picks the shots of some gateways.
func At(gateways ...string) func(*Shot) bool {
	return func(s *Shot) bool { return slices.Contains(gateways, s.Gateway) }
}

// Summary is a line for a test's log: calls by outcome, and the slowest.
func (l *Load) Summary(from time.Time) string {
	counts := map[string]int{}
	var slowest time.Duration
	for _, c := range l.Calls(from) {
		counts[fmt.Sprintf("%d", c.Status)]++
		slowest = max(slowest, c.End.Sub(c.Start))
	}
	var parts []string
	for status, n := range counts {
		parts = append(parts, fmt.Sprintf("%s: %d", status, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ") + fmt.Sprintf("; slowest %v", slowest.Round(time.Millisecond))
}

// NoneHangs fails the test for every call since from that pick accepts (nil =
// all) and that was without an answer for longer than limit.
func (l *Load) NoneHangs(from time.Time, limit time.Duration, pick func(*Shot) bool) {
	l.t.Helper()
	bad := map[string]int{}
	for _, c := range l.Calls(from) {
		if took := c.End.Sub(c.Start); (pick == nil || pick(c.Shot)) && took > limit {
			bad[fmt.Sprintf("%s at %s: %d after more than %v", c.Shot.Name, c.Shot.Gateway, c.Status, limit)]++
		}
	}
	for what, n := range bad {
		l.t.Errorf("%d × %s", n, what)
	}
}
