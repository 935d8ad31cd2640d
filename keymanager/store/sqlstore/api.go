package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

const apiColumns = `id, organization, name, version, context, state, spec, position, created_at, updated_at, revision`

func scanAPI(r db.Row, a *keymanager.API) error {
	unreadable, err := scanAPIRow(r, a)
	return errors.Join(err, unreadable)
}

// scanAPIRow tells a row whose content cannot be read from a failure to read
// rows. (A driver reads no further row after one that failed.)
func scanAPIRow(r db.Row, a *keymanager.API) (unreadable, err error) {
	var spec apiSpec
	err = r.Scan(&a.ID, &a.Organization, &a.Name, &a.Version, &a.Context, &a.State, lenient{document{&spec}, &unreadable}, &a.Position,
		millis{&a.CreatedAt}, millis{&a.UpdatedAt}, &a.Revision)
	spec.fill(a)
	return unreadable, err
}

// CreateAPI adds an API and publishes it.
func (s *Store) CreateAPI(ctx context.Context, a *keymanager.API) error {
	return s.write(ctx, func(s *Store) error {
		spec, err := encode(specOf(a))
		if err != nil {
			return err
		}
		s.created(&a.Meta)
		_, err = s.q.Exec(ctx, `INSERT INTO api (id, organization, name, version, context, state, spec, created_at, updated_at, revision)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			a.ID, a.Organization, a.Name, a.Version, a.Context, a.State, spec, ms(a.CreatedAt), ms(a.UpdatedAt), a.Revision)
		if err != nil {
			return explain(err, apiLabel(a)+" exists already", organizationLabel(a.Organization)+" does not exist")
		}
		return s.publishAPI(ctx, a)
	})
}

// UpdateAPI changes an API and publishes it.
func (s *Store) UpdateAPI(ctx context.Context, a *keymanager.API) error {
	return s.write(ctx, func(s *Store) error {
		spec, err := encode(specOf(a))
		if err != nil {
			return err
		}
		folded, err := s.contextOf(ctx, a.ID)
		if err != nil {
			return err
		}
		err = s.updated(ctx, &a.Meta, apiLabel(a),
			func() error { _, err := s.API(ctx, a.ID); return err },
			`UPDATE api SET name = $2, version = $3, context = $4, state = $5, spec = $6, updated_at = $7, revision = revision + 1
			WHERE id = $1 AND (CAST($8 AS BIGINT) = 0 OR revision = $8) RETURNING created_at, revision`,
			a.ID, a.Name, a.Version, a.Context, a.State, spec)
		if err != nil {
			return explain(err, apiLabel(a)+" exists already", "")
		}
		for _, q := range []string{`DELETE FROM api_route WHERE api_id = $1`,
			`DELETE FROM api_scope WHERE api_id = $1`, `DELETE FROM api_tier WHERE api_id = $1`} {
			if _, err := s.q.Exec(ctx, q, a.ID); err != nil {
				return failure(err)
			}
		}
		if err := s.dropContext(ctx, folded); err != nil { // first: it may be our own old spelling
			return err
		}
		return s.publishAPI(ctx, a)
	})
}

// publishAPI writes what is derived from an API, and its event.
func (s *Store) publishAPI(ctx context.Context, a *keymanager.API) error {
	if err := s.claimRoutes(ctx, a); err != nil {
		return err
	}
	tiers := map[keymanager.TierName]bool{}
	for _, t := range a.Tiers {
		tiers[t] = true
	}
	scopes := map[keymanager.Scope]bool{}
	for _, r := range a.Resources {
		if r.Tier != "" {
			tiers[r.Tier] = true
		}
		for _, scope := range r.Scopes {
			scopes[scope] = true
		}
	}
	for t := range tiers {
		if _, err := s.q.Exec(ctx, `INSERT INTO api_tier (api_id, organization, tier) VALUES ($1, $2, $3)`, a.ID, a.Organization, t); err != nil {
			return explain(err, "", tierLabel(t)+" does not exist")
		}
	}
	for scope := range scopes {
		if _, err := s.q.Exec(ctx, `INSERT INTO api_scope (api_id, scope) VALUES ($1, $2)`, a.ID, scope); err != nil {
			return failure(err)
		}
	}
	if err := s.Append(ctx, store.LogEvent{API: a.ID}); err != nil {
		return err
	}
	s.tx.positionOf(a)
	return nil
}

// DeleteAPI removes an API to which nobody is subscribed.
func (s *Store) DeleteAPI(ctx context.Context, id keymanager.APIID) error {
	return s.write(ctx, func(s *Store) error {
		folded, err := s.contextOf(ctx, id)
		if err != nil {
			return err
		}
		if err := s.deleted(ctx, fmt.Sprintf("API %q", id), `DELETE FROM api WHERE id = $1`, id); err != nil {
			return err
		}
		if err := s.dropContext(ctx, folded); err != nil {
			return err
		}
		return s.Append(ctx, store.LogEvent{API: id})
	})
}

// API reads one by id.
func (s *Store) API(ctx context.Context, id keymanager.APIID) (*keymanager.API, error) {
	what := fmt.Sprintf("API %q", id)
	if !storable(id) {
		return nil, notFound(what)
	}
	return one(ctx, s.q, scanAPI, what, `SELECT `+apiColumns+` FROM api WHERE id = $1`, id)
}

// APIByName reads one by name and version.
func (s *Store) APIByName(ctx context.Context, org keymanager.OrganizationID, name, version string) (*keymanager.API, error) {
	what := apiLabel(&keymanager.API{Name: name, Version: version})
	if !storable(string(org), name, version) {
		return nil, notFound(what)
	}
	return one(ctx, s.q, scanAPI, what,
		`SELECT `+apiColumns+` FROM api WHERE organization = $1 AND name = $2 AND version = $3`, org, name, version)
}

// APIs lists those of an organization by name and version.
func (s *Store) APIs(ctx context.Context, org keymanager.OrganizationID, p store.Page) ([]keymanager.API, int, error) {
	return list(ctx, s.q, p, scanAPI,
		`SELECT `+apiColumns+` FROM api WHERE organization = $1 ORDER BY name, version LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM api WHERE organization = $1`, org)
}

// apiBatch is how many APIs AllAPIs reads at a time: no statement runs long,
// and no connection is held while fn works.
const apiBatch = 500

// AllAPIs calls fn for every API, in order of id. An API that cannot be read
// is logged and left out: the others must not suffer.
func (s *Store) AllAPIs(ctx context.Context, fn func(*keymanager.API) error) error {
	type row struct {
		api keymanager.API
		err error
	}
	scan := func(r db.Row, to *row) error {
		var err error
		to.err, err = scanAPIRow(r, &to.api)
		return err
	}
	var last keymanager.APIID
	for {
		batch, err := all(ctx, s.q, scan, `SELECT `+apiColumns+` FROM api WHERE id > $1 ORDER BY id LIMIT $2`, last, apiBatch)
		if err != nil {
			return err
		}
		for i := range batch {
			last = batch[i].api.ID
			if batch[i].err != nil {
				s.log.ErrorContext(ctx, "stored API cannot be read, and is left out", "api", last, "error", batch[i].err)
				continue
			}
			if err := fn(&batch[i].api); err != nil {
				return err
			}
		}
		if len(batch) < apiBatch {
			return nil
		}
	}
}

func apiLabel(a *keymanager.API) string { return fmt.Sprintf("API %q version %q", a.Name, a.Version) }
