package sqlstore

import (
	"context"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// The head of the log is read in the same statement as the facts, so in the
// same snapshot: an event after that head may change the facts, one before it
// is in them. Where nothing is stored, the one row has only the head.

const tokenFactsQuery = `
SELECT h.epoch, h.seq, t.id, t.issued_at, t.expires_at, t.revoked_at,
       t.consumer_key, t.key_type, t.user_type, t.scopes,
       a.organization, a.id, a.name, a.tier, a.attributes, a.status, a.scopes,
       o.user_store, o.name, o.status,
       u.id, u.user_store, u.name, u.status,
       s.id, s.state, s.tier
FROM log_head h
LEFT JOIN access_token_primary t ON t.digest = $1
LEFT JOIN client c ON c.consumer_key = t.consumer_key
LEFT JOIN application a ON a.id = c.application_id
LEFT JOIN users o ON o.id = a.owner
LEFT JOIN users u ON u.id = t.user_id
LEFT JOIN subscription s ON s.application_id = a.id AND s.api_id = $2`

// TokenFacts reads what is stored about a token and an API.
func (s *Store) TokenFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	if !storable(api) {
		api = "" // to which nobody is subscribed
	}
	f := new(store.Facts)
	row := newFactsRow(f)
	g := &row.grant
	var userName string
	var applicationScopes []keymanager.Scope
	err := s.q.QueryRow(ctx, tokenFactsQuery, digestBytes(d), api).Scan(
		&row.head.epoch, &row.head.seq, tokenID{&f.TokenID}, millis{&f.IssuedAt}, millis{&f.ExpiresAt}, millis{&f.RevokedAt},
		optional[keymanager.ConsumerKey]{&g.ConsumerKey}, optional[keymanager.KeyType]{&g.KeyType},
		optional[keymanager.UserType]{&g.UserType}, words[keymanager.Scope]{&g.Scopes},
		optional[keymanager.OrganizationID]{&g.Organization}, optional[keymanager.ApplicationID]{&g.Application.ID},
		optional[string]{&g.Application.Name}, optional[keymanager.TierName]{&g.Application.Tier},
		attributes{&g.Application.Attributes}, optional[keymanager.ApplicationStatus]{&f.ApplicationStatus}, words[keymanager.Scope]{&applicationScopes},
		optional[string]{&row.ownerStore}, optional[string]{&row.ownerName}, optional[keymanager.UserStatus]{&f.OwnerStatus},
		optional[keymanager.UserID]{&g.UserID}, optional[string]{&g.UserStore}, optional[string]{&userName}, optional[keymanager.UserStatus]{&f.UserStatus},
		optional[keymanager.SubscriptionID]{&row.subscription.ID}, optional[keymanager.SubscriptionState]{&row.subscription.State},
		optional[keymanager.TierName]{&row.subscription.Tier})
	if err != nil {
		return nil, keymanager.Position{}, failure(err)
	}
	g.User = fullName(g.UserStore, userName)
	g.Scopes = keymanager.HonouredScopes(g.Scopes, applicationScopes)
	return row.facts()
}

const apiKeyFactsQuery = `
SELECT h.epoch, h.seq, k.id, k.created_at, k.expires_at, k.revoked_at,
       k.key_type, k.networks, k.referers,
       a.organization, a.id, a.name, a.tier, a.attributes, a.status,
       o.id, o.user_store, o.name, o.status,
       s.id, s.state, s.tier
FROM log_head h
LEFT JOIN api_key k ON k.digest = $1
LEFT JOIN application a ON a.id = k.application_id
LEFT JOIN users o ON o.id = a.owner
LEFT JOIN subscription s ON s.application_id = a.id AND s.api_id = $2`

// APIKeyFacts reads what is stored about an API key and an API. The key stands
// for its application, and so for the application's owner.
func (s *Store) APIKeyFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*store.Facts, keymanager.Position, error) {
	if !storable(api) {
		api = "" // to which nobody is subscribed
	}
	f := new(store.Facts)
	row := newFactsRow(f)
	g := &row.grant
	err := s.q.QueryRow(ctx, apiKeyFactsQuery, digestBytes(d), api).Scan(
		&row.head.epoch, &row.head.seq, tokenID{&f.TokenID}, millis{&f.IssuedAt}, millis{&f.ExpiresAt}, millis{&f.RevokedAt},
		optional[keymanager.KeyType]{&g.KeyType}, optionalDocument{&g.Networks}, optionalDocument{&g.Referers},
		optional[keymanager.OrganizationID]{&g.Organization}, optional[keymanager.ApplicationID]{&g.Application.ID},
		optional[string]{&g.Application.Name}, optional[keymanager.TierName]{&g.Application.Tier},
		attributes{&g.Application.Attributes}, optional[keymanager.ApplicationStatus]{&f.ApplicationStatus},
		optional[keymanager.UserID]{&g.UserID}, optional[string]{&row.ownerStore}, optional[string]{&row.ownerName}, optional[keymanager.UserStatus]{&f.OwnerStatus},
		optional[keymanager.SubscriptionID]{&row.subscription.ID}, optional[keymanager.SubscriptionState]{&row.subscription.State},
		optional[keymanager.TierName]{&row.subscription.Tier})
	if err != nil {
		return nil, keymanager.Position{}, failure(err)
	}
	f.UserStatus = f.OwnerStatus
	g.UserStore, g.User, g.UserType = row.ownerStore, fullName(row.ownerStore, row.ownerName), keymanager.UserTypeApplication
	return row.facts()
}

// factsRow is one row of a facts query; columns that are null are zero.
type factsRow struct {
	*store.Facts
	head                  headRow
	grant                 keymanager.Grant
	ownerStore, ownerName string
	subscription          keymanager.GrantSubscription
}

func newFactsRow(f *store.Facts) *factsRow { return &factsRow{Facts: f} }

// facts joins the parts. A credential without an application is none: its
// client is gone.
func (r *factsRow) facts() (*store.Facts, keymanager.Position, error) {
	head, err := r.head.position()
	if err != nil || r.TokenID.IsZero() || r.grant.Application.ID == "" {
		return nil, head, err
	}
	r.Head = head
	r.grant.Subscriber = fullName(r.ownerStore, r.ownerName)
	if r.subscription.ID != "" {
		subscription := r.subscription // alone: the row need not stay in memory with it
		r.grant.Subscription = &subscription
	}
	r.Grant = r.grant
	return r.Facts, head, nil
}

// fullName returns DOMAIN/user, and nothing for nobody.
func fullName(userStore, name string) string {
	if name == "" {
		return ""
	}
	u := keymanager.User{UserStore: userStore, Name: name}
	return u.FullName()
}
