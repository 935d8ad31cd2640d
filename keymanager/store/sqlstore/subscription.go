package sqlstore

import (
	"context"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const subscriptionColumns = `id, organization, name, application_id, api_id, tier, pending_tier, state, created_at, updated_at, revision`

func scanSubscription(r db.Row, u *keymanager.Subscription) error {
	return r.Scan(&u.ID, &u.Organization, &u.Name, &u.ApplicationID, &u.APIID, &u.Tier,
		optional[keymanager.TierName]{&u.PendingTier}, &u.State, millis{&u.CreatedAt}, millis{&u.UpdatedAt}, &u.Revision)
}

const (
	subscriptionTaken      = "the application is subscribed to the API already, or the subscription's name is taken"
	subscriptionReferences = "the application, API or tier of the subscription does not exist"
)

// CreateSubscription subscribes an application to an API; its verdicts become
// stale.
func (s *Store) CreateSubscription(ctx context.Context, u *keymanager.Subscription) error {
	return s.write(ctx, func(s *Store) error {
		s.created(&u.Meta)
		_, err := s.q.Exec(ctx, `INSERT INTO subscription (`+subscriptionColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			u.ID, u.Organization, u.Name, u.ApplicationID, u.APIID, u.Tier, nullable(u.PendingTier), u.State,
			ms(u.CreatedAt), ms(u.UpdatedAt), u.Revision)
		if err != nil {
			return explain(err, subscriptionTaken, subscriptionReferences)
		}
		return s.Append(ctx, staleApplication(u.ApplicationID))
	})
}

// UpdateSubscription changes name, tiers and state; the application and the
// API stay.
func (s *Store) UpdateSubscription(ctx context.Context, u *keymanager.Subscription) error {
	return s.write(ctx, func(s *Store) error {
		err := s.updated(ctx, &u.Meta, subscriptionLabel(u.ID),
			func() error { _, err := s.Subscription(ctx, u.ID); return err },
			`UPDATE subscription SET name = $2, tier = $3, pending_tier = $4, state = $5, updated_at = $6, revision = revision + 1
			WHERE id = $1 AND (CAST($7 AS BIGINT) = 0 OR revision = $7) RETURNING created_at, revision`,
			u.ID, u.Name, u.Tier, nullable(u.PendingTier), u.State)
		if err != nil {
			return explain(err, subscriptionTaken, subscriptionReferences)
		}
		var app keymanager.ApplicationID // as stored, whatever the caller's object says
		if err := s.q.QueryRow(ctx, `SELECT application_id FROM subscription WHERE id = $1`, u.ID).Scan(&app); err != nil {
			return found(err, subscriptionLabel(u.ID))
		}
		return s.Append(ctx, staleApplication(app))
	})
}

// DeleteSubscription ends a subscription; the application's verdicts become
// stale.
func (s *Store) DeleteSubscription(ctx context.Context, id keymanager.SubscriptionID) error {
	return s.write(ctx, func(s *Store) error {
		var app keymanager.ApplicationID
		err := s.q.QueryRow(ctx, `DELETE FROM subscription WHERE id = $1 RETURNING application_id`, id).Scan(&app)
		if err != nil {
			return found(err, subscriptionLabel(id))
		}
		return s.Append(ctx, staleApplication(app))
	})
}

// Subscription reads one by id.
func (s *Store) Subscription(ctx context.Context, id keymanager.SubscriptionID) (*keymanager.Subscription, error) {
	if !storable(id) {
		return nil, notFound(subscriptionLabel(id))
	}
	return one(ctx, s.q, scanSubscription, subscriptionLabel(id),
		`SELECT `+subscriptionColumns+` FROM subscription WHERE id = $1`, id)
}

// SubscriptionByName reads one by name.
func (s *Store) SubscriptionByName(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.Subscription, error) {
	what := fmt.Sprintf("subscription %q", name)
	if !storable(string(org), name) {
		return nil, notFound(what)
	}
	return one(ctx, s.q, scanSubscription, what,
		`SELECT `+subscriptionColumns+` FROM subscription WHERE organization = $1 AND name = $2`, org, name)
}

// Subscriptions lists those of an organization that f lets through, by name.
func (s *Store) Subscriptions(ctx context.Context, org keymanager.OrganizationID, f store.SubscriptionFilter, p store.Page) ([]keymanager.Subscription, int, error) {
	where := ` FROM subscription WHERE organization = $1`
	args := []any{org}
	if f.Application != "" {
		args = append(args, f.Application)
		where += fmt.Sprintf(` AND application_id = $%d`, len(args))
	}
	if f.API != "" {
		args = append(args, f.API)
		where += fmt.Sprintf(` AND api_id = $%d`, len(args))
	}
	return list(ctx, s.q, p, scanSubscription,
		`SELECT `+subscriptionColumns+where+fmt.Sprintf(` ORDER BY name LIMIT $%d OFFSET $%d`, len(args)+1, len(args)+2),
		`SELECT count(*)`+where, args...)
}

func subscriptionLabel(id keymanager.SubscriptionID) string {
	return fmt.Sprintf("subscription %q", id)
}
