package revoked

import (
	"time"

	"tollgate/keymanager"
)

// deadSet is what is refused from now on.
type deadSet struct {
	tokens   *marks[keymanager.TokenID]
	families *marks[keymanager.TokenID]
	clients  *marks[keymanager.ConsumerKey]
	users    *marks[keymanager.UserID]
	stores   *marks[string]
}

func newDeadSet() deadSet {
	return deadSet{
		tokens: newMarks[keymanager.TokenID](), families: newMarks[keymanager.TokenID](),
		clients: newMarks[keymanager.ConsumerKey](), users: newMarks[keymanager.UserID](), stores: newMarks[string](),
	}
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
	d.tokens.forget(now)
	d.families.forget(now)
	d.clients.forget(now)
	d.users.forget(now)
	d.stores.forget(now)
}
