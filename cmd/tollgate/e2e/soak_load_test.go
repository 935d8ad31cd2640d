//go:build soak

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// The kinds of calls, in parts of a hundred.
const (
	callValid = iota
	callExpired
	callRevoked
	callScope
	callForged
	callItem
	callKinds
)

var (
	soakMix   = [callKinds]int{70, 5, 5, 5, 5, 10}
	soakKinds = [callKinds]string{"valid", "expired", "revoked", "wrong scope", "forged", "changing API"}
)

// soakWindow is what became of the calls of a few seconds.
type soakWindow struct {
	latency   []time.Duration
	undecided int
}

// p is a quantile of the latencies.
func (w *soakWindow) p(q float64) time.Duration {
	if len(w.latency) == 0 {
		return 0
	}
	slices.Sort(w.latency)
	return w.latency[min(len(w.latency)-1, int(q*float64(len(w.latency))))]
}

// soakLoad calls at a fixed rate, whatever becomes of the calls.
type soakLoad struct {
	s      *soak
	w      *soakTokens
	client *http.Client
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	loggedLoose, loggedWrong atomic.Int64

	mu      sync.Mutex
	window  *soakWindow
	right   [callKinds]int
	excused map[string]int // undecided, by what was restarted
	loose   map[string]int // undecided, and nothing was
	wrong   map[string]int
	late    []time.Duration // a token let through after its revocation was answered
	skipped int             // by the driver itself
}

func newSoakLoad(s *soak, w *soakTokens) *soakLoad {
	return &soakLoad{s: s, w: w, excused: map[string]int{}, loose: map[string]int{}, wrong: map[string]int{},
		window: &soakWindow{}, client: &http.Client{
			Timeout:   15 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, ResponseHeaderTimeout: 10 * time.Second},
		}}
}

// ready waits until every gateway answers every kind of call that there is.
func (l *soakLoad) ready() {
	rig.Eventually(l.s.t, "tokens are issued", func() error {
		if l.w.pick(&l.w.live) == nil || l.w.pick(&l.w.moving) == nil {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	for _, gateway := range l.s.Gateways {
		for _, item := range l.w.items {
			rig.Eventually(l.s.t, item.path+" at "+gateway, func() error {
				a, err := rig.Do(http.MethodGet, "http://"+gateway+item.path, "Authorization", "Bearer "+l.w.pick(&l.w.moving).value)
				if err == nil && (a.Status != item.now.status || a.Code() != item.now.code) {
					err = fmt.Errorf("%d %s", a.Status, a.Body)
				}
				return err
			})
		}
	}
}

// stolen returns the processor time that the host of this virtual machine has
// given to others while something was to be done here, for each processor.
func stolen() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat)) // "cpu", then user, nice, system, idle, iowait, irq, softirq, steal in 1/100 s
	if len(fields) < 9 {
		return 0
	}
	n, _ := strconv.Atoi(fields[8])
	return time.Duration(n) * 10 * time.Millisecond / time.Duration(runtime.NumCPU())
}

// knee raises the rate until calls pile up, are not answered, or the driver
// cannot keep up; the last rate that was borne. A step is tried twice, and more
// often when the host gave the processors to others meanwhile. The limit is where
// waiting begins: not all of the processors may be gone before anything is
// restarted.
func (l *soakLoad) knee() int {
	const steps, limit = 12, 25 * time.Millisecond
	step := min(soakRamp/steps, l.s.minutes/4/steps)
	best := 0
	for rate := 100; rate < 10_000; rate = rate * 13 / 10 {
		ok := false
		for tries, all := 0, 0; tries < 2 && all < 8; all++ {
			before := stolen()
			l.start(rate)
			time.Sleep(step)
			l.stop()
			if stolen()-before < step/20 {
				tries++
			}
			l.mu.Lock()
			w := l.window
			l.window = &soakWindow{}
			l.mu.Unlock()
			n := len(w.latency)
			ok = w.p(0.99) < limit && w.undecided*100 <= n && float64(n) > 0.95*float64(rate)*step.Seconds()
			l.s.t.Logf("%d/s: %d calls, p50 %v, p90 %v, p99 %v, %d undecided", rate, n, w.p(0.5), w.p(0.9), w.p(0.99), w.undecided)
			if ok {
				break
			}
		}
		if !ok || time.Since(l.s.began) > l.s.minutes/4 {
			break
		}
		best = rate
	}
	// More than it bears was tried on purpose.
	l.mu.Lock()
	clear(l.loose)
	l.skipped = 0
	l.mu.Unlock()
	return max(best, 100)
}

func (l *soakLoad) start(rate int) {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.tasks.Go(func() { l.run(ctx, time.Second/time.Duration(rate)) })
}

// stop ends the load and waits for the calls in flight.
func (l *soakLoad) stop() { l.cancel(); l.tasks.Wait() }

func (l *soakLoad) run(ctx context.Context, every time.Duration) {
	free := make(chan struct{}, 2000)
	due := time.Now()
	for {
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		} else if ctx.Err() != nil {
			return
		}
		start := due
		select {
		case free <- struct{}{}:
			l.tasks.Go(func() {
				defer func() { <-free }()
				l.call(start)
			})
		default: // thousands wait already: counted, for the driver's honesty
			l.mu.Lock()
			l.skipped++
			l.mu.Unlock()
		}
		// A driver that was itself held up does not make up for it in a burst.
		if due = due.Add(every); time.Since(due) > time.Second {
			l.mu.Lock()
			l.skipped += int(time.Since(due) / every)
			l.mu.Unlock()
			due = time.Now()
		}
	}
}

// call makes one call and judges it.
func (l *soakLoad) call(start time.Time) {
	kind, part := callValid, rand.IntN(100)
	for part >= soakMix[kind] {
		part -= soakMix[kind]
		kind++
	}
	gateway, path := rand.IntN(len(l.s.Gateways)), "/shop/1.0.0/items"
	var token *soakToken
	var item *soakItem
	value := ""
	switch kind {
	case callExpired:
		token = l.w.pick(&l.w.expired)
	case callRevoked:
		token = l.w.pick(&l.w.revoked)
	case callScope:
		path = "/shop/1.0.0/admin"
	case callForged: // one of ours with another end, or nothing of the kind
		if value = "tgat_forged"; rand.IntN(2) == 0 {
			if k := l.w.pick(&l.w.live); k != nil {
				value = k.value[:len(k.value)-4] + "AAAA"
			}
		}
	case callItem:
		item = l.w.items[rand.IntN(len(l.w.items))]
		path = item.path
	}
	if token == nil && value == "" {
		if kind == callExpired || kind == callRevoked {
			kind = callValid
		}
		from := &l.w.live
		if kind == callItem {
			from = &l.w.moving
		}
		if token = l.w.pick(from); token == nil {
			return
		}
	}
	if token != nil {
		value = token.value
	}
	begun := time.Now() // what holds is judged by the call itself, how long it took by when it was due
	got, err := l.get(gateway, path, value)
	end := time.Now()
	l.judge(kind, gateway, token, item, begun, start, end, got, err)
}

func (l *soakLoad) get(gateway int, path, token string) (answer, error) {
	a, err := rig.DoWith(l.client, http.MethodGet, "http://"+l.s.Gateways[gateway]+path, "Authorization", "Bearer "+token)
	got := answer{status: a.Status}
	if a.Status >= 300 {
		got.code = a.Code()
	}
	return got, err
}

// want returns the answers that are right.
func (l *soakLoad) want(kind int, token *soakToken, item *soakItem, begun, end time.Time) []answer {
	refused := []answer{{401, "900901"}}
	if token == nil {
		return refused
	}
	live, dead, expires := token.state(l.s, begun, end)
	if expires { // 900901 once it is swept
		refused = append(refused, answer{401, "900903"})
	}
	yes := []answer{{200, ""}}
	switch kind {
	case callScope:
		yes = []answer{{403, "900910"}}
	case callItem:
		yes = item.expect(l.s, begun, end)
	}
	switch {
	case live:
		return yes
	case dead && item == nil:
		return refused
	case dead && slices.Contains(yes, answer{404, "404"}): // no API, no question of tokens
		return append(refused, answer{404, "404"})
	case dead:
		return refused
	default:
		return append(slices.Clone(yes), refused...)
	}
}

func (l *soakLoad) judge(kind, gateway int, token *soakToken, item *soakItem, begun, due, end time.Time, got answer, err error) {
	want := l.want(kind, token, item, begun, end)
	right := err == nil && slices.Contains(want, got)
	var late time.Duration
	known := token == nil
	if token != nil {
		// it has been let through here since the gateway's authz began, and so is in its memory
		known = (kind == callValid || kind == callScope) && token.known(gateway, l.s.lastStart(gateway))
		if got.status == http.StatusOK {
			late = token.saw(gateway, begun)
		}
	}
	what := ""
	if !right {
		what = fmt.Sprintf("%s: %d %s, want %v", soakKinds[kind], got.status, got.code, want)
		if err != nil {
			what = fmt.Sprintf("%s: %v", soakKinds[kind], err)
		}
	}
	undecided := !right && (err != nil || got.status == http.StatusServiceUnavailable)
	excuse := ""
	if undecided {
		if excuse = l.s.excuse(gateway, known, begun, end); excuse == "" {
			l.logf(&l.loggedLoose, "%s undecided at gateway %d (known %v), after %v: %s", end.Sub(l.s.began).Round(time.Millisecond), gateway+1, known, end.Sub(begun).Round(time.Millisecond), what)
		}
	} else if !right {
		l.s.t.Fail()
		l.logf(&l.loggedWrong, "%s wrong at gateway %d: %s; %s", end.Sub(l.s.began).Round(time.Millisecond), gateway+1, what, pathOf(item))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window.latency = append(l.window.latency, end.Sub(due))
	switch {
	case right:
		l.right[kind]++
		if late > 0 {
			l.late = append(l.late, late)
		}
	case undecided && excuse != "":
		l.window.undecided++
		l.excused[excuse]++
	case undecided:
		l.window.undecided++
		l.loose[what]++
	default:
		l.wrong[what]++
	}
}

// logf logs what is not as it should be: the first hundred of a sort, one by one.
func (l *soakLoad) logf(logged *atomic.Int64, format string, args ...any) {
	if logged.Add(1) <= 100 {
		l.s.t.Logf(format, args...)
	}
}

func pathOf(item *soakItem) string {
	if item == nil {
		return "/shop"
	}
	return item.path
}

// cut ends the window of the last few seconds.
func (l *soakLoad) cut() (p50, p99 time.Duration, undecided, calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.window
	l.window = &soakWindow{}
	return w.p(0.5), w.p(0.99), w.undecided, len(w.latency)
}
