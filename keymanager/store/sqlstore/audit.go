package sqlstore

import (
	"context"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/db"
)

func scanAudit(r db.Row, e *store.AuditEntry) error {
	return r.Scan(&e.ID, millis{&e.At}, &e.Actor, &e.Organization, &e.Action, &e.Kind, &e.Name, &e.Before, &e.After)
}

// AddAudit appends an entry.
func (s *Store) AddAudit(ctx context.Context, e *store.AuditEntry) error {
	return s.write(ctx, func(s *Store) error {
		s.stamp(&e.At)
		err := s.q.QueryRow(ctx, `INSERT INTO audit (at, actor, organization, action, kind, name, before_doc, after_doc)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
			ms(e.At), e.Actor, e.Organization, e.Action, e.Kind, e.Name, nullable(string(e.Before)), nullable(string(e.After))).Scan(&e.ID)
		return failure(err)
	})
}

// AuditEntries lists entries, newest first.
func (s *Store) AuditEntries(ctx context.Context, org keymanager.OrganizationID, p store.Page) ([]store.AuditEntry, int, error) {
	return list(ctx, s.q, p, scanAudit,
		`SELECT id, at, actor, organization, action, kind, name, before_doc, after_doc FROM audit
		WHERE (CAST($1 AS TEXT) = '' OR organization = $1) ORDER BY id DESC LIMIT $2 OFFSET $3`,
		`SELECT count(*) FROM audit WHERE (CAST($1 AS TEXT) = '' OR organization = $1)`, org)
}
