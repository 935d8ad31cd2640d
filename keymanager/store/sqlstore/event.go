package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

// buffer holds the events of a transaction until it commits. The same event
// twice is one: of many changes of an application in one transaction, gateways
// need one word.
type buffer struct {
	events []store.LogEvent
	seen   map[eventKey]bool
	apis   map[keymanager.APIID]*keymanager.API
}

// eventKey is an event by what it names.
type eventKey struct {
	api   keymanager.APIID
	tier  keymanager.TierRef
	dead  keymanager.Dead
	stale keymanager.Stale
}

func (b *buffer) add(events ...store.LogEvent) error {
	for _, e := range events {
		var k eventKey
		set := 0
		if e.API != "" {
			k.api, set = e.API, set+1
		}
		if e.Tier != nil {
			k.tier, set = *e.Tier, set+1
		}
		if e.Dead != nil {
			k.dead, set = *e.Dead, set+1
		}
		if e.Stale != nil {
			k.stale, set = *e.Stale, set+1
		}
		if set != 1 {
			return fmt.Errorf("an event names one thing, not %d", set)
		}
		if b.seen[k] {
			continue
		}
		if b.seen == nil {
			b.seen = map[eventKey]bool{}
		}
		b.seen[k] = true
		b.events = append(b.events, e)
	}
	return nil
}

// positionOf has the position of a set when it is known.
func (b *buffer) positionOf(a *keymanager.API) {
	if b.apis == nil {
		b.apis = map[keymanager.APIID]*keymanager.API{}
	}
	b.apis[a.ID] = a
}

func (b *buffer) setPositions(head int64) {
	for i, e := range b.events {
		if a := b.apis[e.API]; e.API != "" && a != nil {
			a.Position = uint64(head) - uint64(len(b.events)-1-i)
		}
	}
}

// number queues the statements that number and write the events: raising the
// head takes the lock that puts transactions into order, so it comes last of
// all, together with COMMIT. The others count back from the new head.
func (b *buffer) number(t db.Tx, head *headRow) error {
	if len(b.events) == 0 {
		return nil
	}
	t.AtCommit([]any{&head.epoch, &head.seq},
		`UPDATE log_head SET seq = seq + $1 RETURNING epoch, seq`, len(b.events))
	for i, e := range b.events {
		back := len(b.events) - 1 - i
		kind, body, expires, err := encodeEvent(e)
		if err != nil {
			return err
		}
		t.AtCommit(nil, `INSERT INTO log_event (seq, kind, body, expires_at)
			VALUES ((SELECT seq FROM log_head) - CAST($1 AS BIGINT), $2, $3, $4)`, back, kind, body, expires)
		if e.API != "" {
			t.AtCommit(nil, `UPDATE api SET position = (SELECT seq FROM log_head) - CAST($2 AS BIGINT) WHERE id = $1`, e.API, back)
		}
	}
	t.NotifyAtCommit()
	return nil
}

// The kinds of event as they are stored.
const (
	kindAPI   = "api"
	kindTier  = "tier"
	kindDead  = "dead"
	kindStale = "stale"
)

// eventBody is the stored form of any event.
type eventBody struct {
	API          keymanager.APIID          `json:"api,omitempty"`
	Organization keymanager.OrganizationID `json:"organization,omitempty"`
	Tier         keymanager.TierName       `json:"tier,omitempty"`
	Token        string                    `json:"token,omitempty"`
	Family       string                    `json:"family,omitempty"`
	ConsumerKey  keymanager.ConsumerKey    `json:"consumer_key,omitempty"`
	User         keymanager.UserID         `json:"user,omitempty"`
	UserStore    string                    `json:"user_store,omitempty"`
	Application  keymanager.ApplicationID  `json:"application,omitempty"`
	Subscription keymanager.SubscriptionID `json:"subscription,omitempty"`
	NotBefore    *int64                    `json:"not_before,omitempty"`
	ExpiresAt    *int64                    `json:"expires_at,omitempty"`
}

func encodeEvent(e store.LogEvent) (kind, body string, expires *int64, err error) {
	var b eventBody
	switch {
	case e.API != "":
		kind, b.API = kindAPI, e.API
	case e.Tier != nil:
		kind, b.Organization, b.Tier = kindTier, e.Tier.Organization, e.Tier.Name
	case e.Dead != nil:
		d := e.Dead
		kind, expires = kindDead, nullMS(d.ExpiresAt)
		b = eventBody{Token: idText(d.TokenID), Family: idText(d.Family), ConsumerKey: d.ConsumerKey, User: d.User,
			UserStore: d.UserStore, NotBefore: nullMS(d.NotBefore), ExpiresAt: expires}
	case e.Stale != nil:
		st := e.Stale
		kind = kindStale
		b = eventBody{Application: st.Application, Subscription: st.Subscription, Token: idText(st.TokenID), User: st.User, API: st.API}
	}
	body, err = encode(b)
	return kind, body, expires, err
}

func decodeEvent(seq uint64, kind, body string) (store.LogEvent, error) {
	e := store.LogEvent{Seq: seq}
	var b eventBody
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return e, fmt.Errorf("event %d: %w", seq, err)
	}
	token, tokenErr := textID(b.Token)
	family, familyErr := textID(b.Family)
	if err := errors.Join(tokenErr, familyErr); err != nil {
		return e, fmt.Errorf("event %d: %w", seq, err)
	}
	switch kind {
	case kindAPI:
		e.API = b.API
	case kindTier:
		e.Tier = &keymanager.TierRef{Organization: b.Organization, Name: b.Tier}
	case kindDead:
		e.Dead = &keymanager.Dead{TokenID: token, Family: family, ConsumerKey: b.ConsumerKey, User: b.User, UserStore: b.UserStore,
			NotBefore: timeOf(b.NotBefore), ExpiresAt: timeOf(b.ExpiresAt)}
	case kindStale:
		e.Stale = &keymanager.Stale{Application: b.Application, Subscription: b.Subscription, TokenID: token, User: b.User, API: b.API}
	default:
		return e, fmt.Errorf("event %d: unknown kind %q", seq, kind)
	}
	return e, nil
}

func idText(id keymanager.TokenID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func textID(s string) (keymanager.TokenID, error) {
	if s == "" {
		return keymanager.TokenID{}, nil
	}
	return keymanager.ParseTokenID(s)
}

func timeOf(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms).UTC()
}
