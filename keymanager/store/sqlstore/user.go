package sqlstore

import (
	"context"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const userColumns = `id, organization, user_store, name, email, status, created_at, updated_at, revision`

func scanUser(r db.Row, u *keymanager.User) error {
	return r.Scan(&u.ID, &u.Organization, &u.UserStore, &u.Name, &u.Email, &u.Status,
		millis{&u.CreatedAt}, millis{&u.UpdatedAt}, &u.Revision)
}

// CreateUser adds a user.
func (s *Store) CreateUser(ctx context.Context, u *keymanager.User) error {
	return s.write(ctx, func(s *Store) error {
		s.created(&u.Meta)
		_, err := s.q.Exec(ctx, `INSERT INTO users (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			u.ID, u.Organization, u.UserStore, u.Name, u.Email, u.Status, ms(u.CreatedAt), ms(u.UpdatedAt), u.Revision)
		return explain(err, fmt.Sprintf("user %q exists already", u.FullName()), organizationLabel(u.Organization)+" does not exist")
	})
}

// UpdateUser changes a user; his verdicts and those of his applications become
// stale.
func (s *Store) UpdateUser(ctx context.Context, u *keymanager.User) error {
	return s.write(ctx, func(s *Store) error {
		err := s.updated(ctx, &u.Meta, fmt.Sprintf("user %q", u.FullName()),
			func() error { _, err := s.User(ctx, u.ID); return err },
			`UPDATE users SET user_store = $2, name = $3, email = $4, status = $5, updated_at = $6, revision = revision + 1
			WHERE id = $1 AND (CAST($7 AS BIGINT) = 0 OR revision = $7) RETURNING created_at, revision`,
			u.ID, u.UserStore, u.Name, u.Email, u.Status)
		if err != nil {
			return explain(err, fmt.Sprintf("user %q exists already", u.FullName()), "")
		}
		return s.staleUser(ctx, u.ID)
	})
}

// staleUser appends Stale for the user and the applications he owns.
func (s *Store) staleUser(ctx context.Context, id keymanager.UserID) error {
	owned, err := all(ctx, s.q, func(r db.Row, id *keymanager.ApplicationID) error { return r.Scan(id) },
		`SELECT id FROM application WHERE owner = $1 ORDER BY id`, id)
	if err != nil {
		return err
	}
	events := []store.LogEvent{{Stale: &keymanager.Stale{User: id}}}
	for _, app := range owned {
		events = append(events, staleApplication(app))
	}
	return s.Append(ctx, events...)
}

// DeleteUser removes a user who owns no application.
func (s *Store) DeleteUser(ctx context.Context, id keymanager.UserID) error {
	return s.write(ctx, func(s *Store) error {
		if err := s.deleted(ctx, userLabel(id), `DELETE FROM users WHERE id = $1`, id); err != nil {
			return err
		}
		return s.Append(ctx, store.LogEvent{Stale: &keymanager.Stale{User: id}})
	})
}

// User reads one by id.
func (s *Store) User(ctx context.Context, id keymanager.UserID) (*keymanager.User, error) {
	if !storable(id) {
		return nil, notFound(userLabel(id))
	}
	return one(ctx, s.q, scanUser, userLabel(id), `SELECT `+userColumns+` FROM users WHERE id = $1`, id)
}

// UserByName reads one by user store and name.
func (s *Store) UserByName(ctx context.Context, org keymanager.OrganizationID, domain, name string) (*keymanager.User, error) {
	what := fmt.Sprintf("user %q", domain+"/"+name)
	if !storable(string(org), domain, name) {
		return nil, notFound(what)
	}
	return one(ctx, s.q, scanUser, what,
		`SELECT `+userColumns+` FROM users WHERE organization = $1 AND user_store = $2 AND name = $3`, org, domain, name)
}

// Users lists those of an organization by user store and name.
func (s *Store) Users(ctx context.Context, org keymanager.OrganizationID, p store.Page) ([]keymanager.User, int, error) {
	return list(ctx, s.q, p, scanUser,
		`SELECT `+userColumns+` FROM users WHERE organization = $1 ORDER BY user_store, name LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM users WHERE organization = $1`, org)
}

func userLabel(id keymanager.UserID) string { return fmt.Sprintf("user %q", id) }
