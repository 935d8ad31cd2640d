package xds

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/status"
)

const (
	// refusalLine is how often one identity's refusals of one code make a line: an
	// Envoy that is refused comes again every few seconds, for ever.
	refusalLine = time.Minute
	// remembered bounds what is kept of those who knock.
	remembered = 1000
)

// audit writes a line for each stream that is refused, but not for each retry.
type audit struct {
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	seen map[string]*knocking
}

// knocking is one identity that is refused for one reason.
type knocking struct {
	line  time.Time // when the last line was written
	since int       // refusals after it
}

func newAudit(logger *slog.Logger, now func() time.Time) *audit {
	return &audit{logger: logger, now: now, seen: map[string]*knocking{}}
}

// refused notes a refusal of who, that calls itself node of group.
func (a *audit) refused(who identity, group, node string, err error) {
	st := status.Convert(err)
	now := a.now()
	group, node = shorten(group), shorten(node) // the caller's words
	a.mu.Lock()
	key := who.String() + " " + node + " " + st.Code().String()
	if len(a.seen) >= remembered {
		for k, old := range a.seen {
			if now.Sub(old.line) >= refusalLine {
				delete(a.seen, k)
			}
		}
		if len(a.seen) >= remembered {
			key = "" // all the others together
		}
	}
	k := a.seen[key]
	if k == nil {
		k = &knocking{}
		a.seen[key] = k
	}
	again := k.since
	write := now.Sub(k.line) >= refusalLine
	if write {
		k.line, k.since = now, 0
	} else {
		k.since++
	}
	a.mu.Unlock()
	if write {
		a.logger.Warn("Envoy refused", "group", group, "node", node, "peer", who.String(), "from", who.from,
			"code", st.Code().String(), "reason", shorten(st.Message()), "refused_since_last_line", again)
	}
}

// limiter bounds how often one identity opens a stream.
type limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu  sync.Mutex
	who map[string]*rate.Limiter
}

func newLimiter(perSecond float64, burst int, now func() time.Time) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, now: now, who: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(who string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.who[who]
	if r == nil {
		if len(l.who) >= remembered {
			for w, old := range l.who { // who has all its tokens is not known from a stranger
				if old.TokensAt(now) >= float64(l.burst) {
					delete(l.who, w)
				}
			}
		}
		r = rate.NewLimiter(l.rate, l.burst)
		l.who[who] = r
	}
	return r.AllowN(now, 1)
}
