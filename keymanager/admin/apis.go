package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func apis() *managed[keymanager.API, APISpec] {
	return &managed[keymanager.API, APISpec]{
		kind: kindAPI, rank: 3, put: "put-api",
		identify: identifyAPI,
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.API, error) {
			return l.api(ctx, org, name)
		},
		build: buildAPI,
		show:  func(_ context.Context, _ *lookup, a *keymanager.API) (*APISpec, error) { return apiSpec(a), nil },
		about: func(_ context.Context, _ *lookup, a *keymanager.API) (Object[APISpec], error) {
			return Object[APISpec]{
				Organization: string(a.Organization), Name: a.Name, ID: string(a.ID),
				Revision: a.Revision, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
			}, nil
		},
		id:     func(a *keymanager.API) any { return a.ID },
		create: func(ctx context.Context, tx *txn, a *keymanager.API) error { return tx.st.CreateAPI(ctx, a) },
		update: func(ctx context.Context, tx *txn, a *keymanager.API) error { return tx.st.UpdateAPI(ctx, a) },
		remove: func(ctx context.Context, tx *txn, a *keymanager.API) error { return tx.st.DeleteAPI(ctx, a.ID) },
	}
}

// identifyAPI makes name/version of either that or a name and the spec's
// version.
func identifyAPI(name string, s *APISpec, c *checks) string {
	plain, version, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		return name + "/" + s.Version
	case s.Version == "":
		s.Version = version
	case s.Version != version:
		c.add("/version", fmt.Sprintf("must be %q, as the name says, or be left out", version))
		s.Version = version // not a problem twice
	}
	return plain + "/" + version
}

func buildAPI(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *APISpec, old *keymanager.API) (*keymanager.API, error) {
	a := &keymanager.API{Organization: org}
	s.noun(a, c)
	a.Name, _, _ = strings.Cut(name, "/")
	if old != nil {
		a.ID, a.Meta, a.Position = old.ID, old.Meta, old.Position
	} else {
		id, err := tx.newID()
		if err != nil {
			return nil, err
		}
		a.ID = keymanager.APIID(id)
	}
	checkState(c, a, old)
	for _, f := range keymanager.ValidateAPI(a) {
		// The schema calls it securitySchemes.
		if rest, ok := strings.CutPrefix(f.Path, "/security"); ok {
			f.Path = "/securitySchemes" + rest
		}
		c.fields = append(c.fields, f)
	}
	for i, t := range a.Tiers {
		c.tier(ctx, child("/tiers", i), org, t)
	}
	for i, r := range a.Resources {
		if r.Tier != "" {
			c.tier(ctx, child("/resources", i)+"/tier", org, r.Tier)
		}
	}
	return a, nil
}

// checkState settles the life-cycle state: one that is left out stays what it
// is, and not every state follows on every other.
func checkState(c *checks, a, old *keymanager.API) {
	switch {
	case a.State == "" && old != nil:
		a.State = old.State
	case a.State == "":
		a.State = keymanager.StateCreated
	case old != nil && !keymanager.ValidTransition(old.State, a.State):
		next := keymanager.NextStates(old.State)
		if len(next) == 0 {
			c.add("/state", fmt.Sprintf("must stay %s: that is the end of the life cycle", old.State))
			return
		}
		c.add("/state", fmt.Sprintf("cannot follow on %s, only %s can", old.State, joined(next)))
	}
}

// StateBody is the body of a change of state.
type StateBody struct {
	State string `json:"state" doc:"the new state"`
}

type stateIn struct {
	Conditions
	Body document[StateBody]
}

// readState reads a state, which must be there: none would mean to leave it.
func readState(in *stateIn) (*StateBody, error) {
	body, err := in.Body.read()
	if err == nil && body.State == "" {
		err = keymanager.Invalid("the body is not valid", []keymanager.FieldError{{Path: "/state", Detail: "must be given"}})
	}
	return body, err
}

func apiResource(k *managed[keymanager.API, APISpec]) resource[keymanager.API, APISpec] {
	return resource[keymanager.API, APISpec]{
		kind: k, one: "api", many: "apis",
		collection: "/organizations/{org}/apis", item: "/{name}/{version}",
		list: func(ctx context.Context, st store.Store, org keymanager.OrganizationID, p store.Page) ([]keymanager.API, int, error) {
			return st.APIs(ctx, org, p)
		},
		// Who subscribes learns what to call, not what stands behind it.
		veil: func(c Caller, s *APISpec) {
			if !publishers.allows(c) {
				s.Production, s.Sandbox, s.Backend = nil, nil, nil
			}
		},
	}
}

func mountAPIs(m *mount) {
	r := apiResource(apis())
	m.kinds[r.kind.kind] = r.kind
	mountManaged(m, r)
	route(m, operation{
		id: "set-api-state", method: http.MethodPut, path: r.collection + r.item + "/state", tag: kindAPI,
		summary: "Move an API in its life cycle",
	}, func(ctx context.Context, in *stateIn) (*objectOut[APISpec], error) {
		body, err := readState(in)
		if err != nil {
			return nil, err
		}
		org, name := r.ref(ctx)
		return modify(ctx, m.server, r, org, name, in.Conditions, func(s *APISpec) { s.State = body.State })
	})
}
