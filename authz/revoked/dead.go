package revoked

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/keymanager"
)

// deadSet is what is refused from now on.
type deadSet struct {
	tokens   marks // keymanager.TokenID
	families marks // keymanager.TokenID
	clients  marks // keymanager.ConsumerKey
	users    marks // keymanager.UserID
	stores   marks // string
}

// has reports whether v is about something dead. What nobody ever revoked
// costs one load each.
func (d *deadSet) has(v *keymanager.Verdict) bool {
	if v.TokenID != (keymanager.TokenID{}) && d.tokens.some() && d.tokens.has(v.TokenID, v.IssuedAt) {
		return true
	}
	if v.Family != (keymanager.TokenID{}) && d.families.some() && d.families.has(v.Family, v.IssuedAt) {
		return true
	}
	g := v.Grant
	if g == nil {
		return false
	}
	return d.clients.some() && d.clients.has(g.ConsumerKey, v.IssuedAt) ||
		d.users.some() && d.users.has(g.UserID, v.IssuedAt) ||
		d.stores.some() && d.stores.has(g.UserStore, v.IssuedAt)
}

func (d *deadSet) add(e keymanager.Dead) {
	switch {
	case e.TokenID != keymanager.TokenID{}:
		d.tokens.put(e.TokenID, always, e.ExpiresAt)
	case e.Family != keymanager.TokenID{}:
		d.families.put(e.Family, always, e.ExpiresAt)
	case e.ConsumerKey != "":
		d.clients.put(e.ConsumerKey, instant(e.NotBefore), e.ExpiresAt)
	case e.User != "":
		d.users.put(e.User, instant(e.NotBefore), e.ExpiresAt)
	case e.UserStore != "":
		d.stores.put(e.UserStore, instant(e.NotBefore), e.ExpiresAt)
	}
}

// instant is always for an entry that does not say before when.
func instant(t time.Time) int64 {
	if t.IsZero() {
		return always
	}
	return t.UnixNano()
}

func (d *deadSet) forget(now time.Time) {
	for _, m := range []*marks{&d.tokens, &d.families, &d.clients, &d.users, &d.stores} {
		m.forget(now)
	}
}

// always is after the issue of every credential.
const always = math.MaxInt64

// never expires.
const never = math.MaxInt64

// marks says of each key before when its credentials are dead. One goroutine
// writes; readers take no lock.
type marks struct {
	byKey sync.Map // key → *mark
	size  atomic.Int64
	// due lists the keys by the minute in which they may be forgotten; only the
	// writer uses it.
	due map[int64][]any
	// oldest is the first minute that may have an entry in due.
	oldest int64
}

type mark struct {
	before  int64 // credentials issued before it are dead; Unix nanoseconds
	expires int64 // Unix seconds
}

func (m *marks) some() bool { return m.size.Load() != 0 }

func (m *marks) has(key any, issued time.Time) bool {
	e, ok := m.byKey.Load(key)
	if !ok {
		return false
	}
	before := e.(*mark).before
	return before == always || issued.UnixNano() < before
}

// put keeps the wider of two marks on one key.
func (m *marks) put(key any, before int64, expires time.Time) {
	e := &mark{before: before, expires: never}
	if !expires.IsZero() {
		e.expires = expires.Add(slack).Unix()
	}
	if old, had := m.byKey.Load(key); had {
		e.before = max(e.before, old.(*mark).before)
		e.expires = max(e.expires, old.(*mark).expires)
	} else {
		m.size.Add(1)
	}
	m.byKey.Store(key, e)
	if e.expires != never {
		if m.due == nil {
			m.due = map[int64][]any{}
		}
		minute := e.expires / 60
		if len(m.due) == 0 || minute < m.oldest {
			m.oldest = minute
		}
		m.due[minute] = append(m.due[minute], key)
	}
}

// forget drops the marks that expired before the minute of now.
func (m *marks) forget(now time.Time) {
	minute := now.Unix() / 60
	for len(m.due) > 0 && m.oldest < minute {
		if m.due[m.oldest] == nil && len(m.due) < int(minute-m.oldest) {
			m.skip(minute) // a long leap
			continue
		}
		for _, key := range m.due[m.oldest] {
			if e, ok := m.byKey.Load(key); ok && e.(*mark).expires/60 <= m.oldest {
				m.byKey.Delete(key)
				m.size.Add(-1)
			}
		}
		delete(m.due, m.oldest)
		m.oldest++
	}
}

// skip moves oldest to the first minute that has entries, at most to limit.
func (m *marks) skip(limit int64) {
	first := limit
	for minute := range m.due {
		first = min(first, minute)
	}
	m.oldest = first
}

// takeFrom moves the marks of another set here; other is not written any more.
func (m *marks) takeFrom(other *marks) {
	other.byKey.Range(func(key, e any) bool {
		m.byKey.Store(key, e)
		m.size.Add(1)
		return true
	})
	m.due, m.oldest = other.due, other.oldest
}
