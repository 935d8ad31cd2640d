package xds

import (
	"time"

	"tollgate/keymanager"
)

// What was refused may be good later although it has not changed: an address
// that was taken is free, a certificate is there, Envoy was restarted. So it is
// tried again, each time after twice the wait.

// backOff is the wait after so many tries before.
func backOff(first time.Duration, tries int) time.Duration { return first << min(tries, 5) }

// clear ends a rejection.
func (g *group) clear(mb *member) {
	mb.bad, mb.retrying = nil, false
	if g.rejected[mb.id] != nil {
		delete(g.rejected, mb.id)
		g.verdicts = true
	}
}

// forget drops the document of an API that is in use as it is to be; of one with
// certificates it is needed when they change.
func (mb *member) forget() {
	if mb.bad == nil && mb.good != nil && mb.good == mb.live && mb.live == mb.want && len(mb.want.trust.certificates()) == 0 {
		mb.doc = nil
	}
}

// lookAgain takes new certificates out of the inbox, and puts before the rest
// (which is newer) the APIs that are to be looked at again: those that the
// certificates concern, and those whose time has come. It returns how long until
// the next, and whether there were new certificates.
func (g *group) lookAgain(inbox []delivery) (rest []delivery, wait time.Duration, certified bool) {
	rest = make([]delivery, 0, len(inbox)+1)
	var again []*keymanager.API
	for _, d := range inbox {
		if d.certs != nil {
			again, certified = g.takeCertificates(d.certs), true // of the last one: it looks at all
			continue
		}
		rest = append(rest, d)
	}
	now := g.opts.Now()
	concerned := map[keymanager.APIID]bool{}
	for _, a := range again {
		concerned[a.ID] = true
	}
	for id, mb := range g.rejected {
		if mb.doc == nil || mb.moving || g.opts.RetryAfter < 0 || concerned[id] {
			continue
		}
		if left := mb.retryAt.Sub(now); left > 0 {
			wait = sooner(wait, left)
			continue
		}
		again = append(again, mb.doc)
	}
	if len(again) > 0 {
		rest = append([]delivery{{at: g.at, apis: again, again: true}}, rest...)
	}
	if g.opts.RetryAfter > 0 {
		wait = sooner(wait, g.log.sendRefusedAgain(g.opts.RetryAfter))
	}
	return rest, wait, certified
}

// sendRefusedAgain sends each Envoy what it alone is without: it refused it,
// and the content is still what it should have. It returns how long until the
// next.
func (l *changeLog) sendRefusedAgain(after time.Duration) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, st := range l.streams {
		for k := range kinds {
			f := &st.feeds[k]
			for name, r := range f.refused {
				e := l.tables[k].entries[name]
				if e == nil || e.now != r.content || r.underway {
					continue
				}
				if left := r.last.Add(backOff(after, r.tries)).Sub(now); left > 0 {
					wait = sooner(wait, left)
					continue
				}
				r.underway = true
				f.refused[name] = r
				if k == scopes {
					f.tainted[name] = true // the same bytes would be taken without effect
				}
				f.again = append(f.again, []item{{entry: e, sent: e.now}})
			}
			if len(f.again) > 0 {
				l.flush(st, k)
			}
		}
	}
	return wait
}
