package keymanager

import (
	"context"
	"time"
)

// Dead says what is refused from now on. Exactly one of TokenID, Family,
// ConsumerKey, User and UserStore is set; the last three with NotBefore.
type Dead struct {
	TokenID     TokenID // an access token or an API key
	Family      TokenID
	ConsumerKey ConsumerKey // its credentials issued before NotBefore
	User        UserID      // his credentials issued before NotBefore
	UserStore   string      // its users' credentials issued before NotBefore
	NotBefore   time.Time
	// ExpiresAt is when the last credential concerned has expired anyhow: from
	// then on the entry may be forgotten. Zero = keep it.
	ExpiresAt time.Time
}

// Stale says which verdicts, also negative ones, no longer hold: those read
// before this event are a miss. Exactly one field is set. A change of a
// subscription or of an application's keys names the application.
type Stale struct {
	Application  ApplicationID
	Subscription SubscriptionID
	TokenID      TokenID // an API key
	User         UserID
	API          APIID
}

// Event is one message of a Revocations stream. For an Item one of Dead and
// Stale is set.
type Event struct {
	Mark
	Dead  *Dead
	Stale *Stale
	// Now is the key manager's clock when it sent a Heartbeat.
	Now time.Time
}

// Revocations answers: what must be forgotten?
type Revocations interface {
	// Follow calls fn with every event after from, in order; see Catalog.Watch
	// for how it ends. A snapshot holds every Dead entry that has not expired
	// and no Stale one: after a snapshot nothing cached before it may be used.
	Follow(ctx context.Context, from Position, fn func(Event) error) error
}
