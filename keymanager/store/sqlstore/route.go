package sqlstore

import (
	"context"
	"errors"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store/db"
)

// claimRoutes gives an API its place: a base path on each of its hosts, or on
// every host. It refuses a place that is taken, whoever has it, and a context
// that others spell differently.
func (s *Store) claimRoutes(ctx context.Context, a *keymanager.API) error {
	// The row of the context is locked until the end of the transaction, so
	// that what is read next is all there is.
	var spelling string
	err := s.q.QueryRow(ctx, `INSERT INTO api_context (folded, context) VALUES ($1, $2)
		ON CONFLICT (folded) DO UPDATE SET folded = excluded.folded RETURNING context`,
		strings.ToLower(a.Context), a.Context).Scan(&spelling)
	if err != nil {
		return failure(err)
	}
	if spelling != a.Context {
		return keymanager.Errorf(keymanager.KindConflict, "context %q differs only in case from %q, which is taken", a.Context, spelling)
	}
	if err := s.lockSegment(ctx, a); err != nil {
		return err
	}
	for _, host := range routeHosts(a) {
		if err := s.routeFree(ctx, a, host); err != nil {
			return err
		}
		if err := s.routeApart(ctx, a, host); err != nil {
			return err
		}
		_, err := s.q.Exec(ctx, `INSERT INTO api_route (host, base_path, api_id) VALUES ($1, $2, $3)`, host, a.BasePath(), a.ID)
		if err != nil {
			return explain(err, routeLabel(a, host)+" is taken by another API", "")
		}
	}
	return nil
}

func (s *Store) routeFree(ctx context.Context, a *keymanager.API, host string) error {
	var other keymanager.API
	var otherHost string
	err := s.q.QueryRow(ctx, `SELECT a.organization, a.name, a.version, r.host
		FROM api_route r JOIN api a ON a.id = r.api_id
		WHERE r.base_path = $1 AND r.api_id <> $2 AND (r.host = $3 OR r.host = '' OR CAST($3 AS TEXT) = '')
		ORDER BY r.host LIMIT 1`, a.BasePath(), a.ID, host).Scan(&other.Organization, &other.Name, &other.Version, &otherHost)
	switch {
	case isNoRows(err):
		return nil
	case err != nil:
		return failure(err)
	}
	what := apiLabel(&other)
	if other.Organization != a.Organization { // whose names are not ours to tell
		what = "an API of another organization"
	}
	return keymanager.Errorf(keymanager.KindConflict, "%s is taken by %s, which answers on %s", routeLabel(a, host), what, hostLabel(otherHost))
}

// lockSegment makes changes below one first path segment wait for one another,
// so that routeApart reads all there is. No context starts with "//".
func (s *Store) lockSegment(ctx context.Context, a *keymanager.API) error {
	_, err := s.q.Exec(ctx, `INSERT INTO api_context (folded, context) VALUES ($1, $1)
		ON CONFLICT (folded) DO UPDATE SET folded = excluded.folded`, "//"+strings.ToLower(a.Segment()))
	return failure(err)
}

// routeApart refuses a base path below that of another organization's API, or
// above it: the longer path wins at Envoy, so it would take calls, with their
// credentials, away from its neighbour. Within an organization that is a
// choice.
func (s *Store) routeApart(ctx context.Context, a *keymanager.API, host string) error {
	base := a.BasePath()
	for i := strings.LastIndexByte(base, '/'); i > 0; i = strings.LastIndexByte(base[:i], '/') {
		if err := s.routeForeign(ctx, a, host, base[:i], base[:i]); err != nil {
			return err
		}
	}
	// everything that starts with base + "/"; paths are ASCII
	return s.routeForeign(ctx, a, host, base+"/", base+"/\U0010ffff")
}

// routeForeign refuses a when an API of another organization answers on host
// at a base path between from and to.
func (s *Store) routeForeign(ctx context.Context, a *keymanager.API, host, from, to string) error {
	var path string
	err := s.q.QueryRow(ctx, `SELECT r.base_path FROM api_route r JOIN api a ON a.id = r.api_id
		WHERE a.organization <> $1 AND r.api_id <> $2 AND (r.host = $3 OR r.host = '' OR CAST($3 AS TEXT) = '')
		AND r.base_path >= $4 AND r.base_path <= $5 LIMIT 1`, a.Organization, a.ID, host, from, to).Scan(&path)
	switch {
	case isNoRows(err):
		return nil
	case err != nil:
		return failure(err)
	}
	return keymanager.Errorf(keymanager.KindConflict, "%s and %s of an API of another organization lie one below the other: calls of one would reach the other",
		routeLabel(a, host), path)
}

// routeHosts returns the hosts of an API as they are compared: lower case, once
// each, and "" for every host.
func routeHosts(a *keymanager.API) []string {
	if len(a.Hosts) == 0 {
		return []string{""}
	}
	seen := map[string]bool{}
	var hosts []string
	for _, h := range a.Hosts {
		if h = strings.ToLower(h); !seen[h] {
			seen[h] = true
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// contextOf returns the folded context of a stored API.
func (s *Store) contextOf(ctx context.Context, id keymanager.APIID) (string, error) {
	var c string
	if err := s.q.QueryRow(ctx, `SELECT context FROM api WHERE id = $1`, id).Scan(&c); err != nil {
		return "", found(err, "API \""+string(id)+"\"")
	}
	return strings.ToLower(c), nil
}

// dropContext forgets the spelling of a context that no API has any more.
func (s *Store) dropContext(ctx context.Context, folded string) error {
	// Lock first: whoever is just adding an API to the context has the row.
	var spelling string
	err := s.q.QueryRow(ctx, `UPDATE api_context SET folded = folded WHERE folded = $1 RETURNING context`, folded).Scan(&spelling)
	if isNoRows(err) {
		return nil
	}
	if err != nil {
		return failure(err)
	}
	_, err = s.q.Exec(ctx, `DELETE FROM api_context WHERE folded = $1
		AND NOT EXISTS (SELECT 1 FROM api WHERE context = $2)`, folded, spelling)
	return failure(err)
}

func routeLabel(a *keymanager.API, host string) string {
	return a.BasePath() + " on " + hostLabel(host)
}

func hostLabel(host string) string {
	if host == "" {
		return "every host"
	}
	return "host " + host
}

func isNoRows(err error) bool { return errors.Is(err, db.ErrNoRows) }
