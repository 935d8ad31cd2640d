package admin

import (
	"context"
	"fmt"
	"maps"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// ApplicationSpec is the JSON of an application.
type ApplicationSpec struct {
	Owner      string            `json:"owner" doc:"a user of the organization: name, or DOMAIN/name" example:"alice"`
	Tier       string            `json:"tier,omitempty" doc:"default: Unlimited"`
	TokenType  string            `json:"tokenType,omitempty" enum:"OAUTH" doc:"default: OAUTH"`
	Attributes map[string]string `json:"attributes,omitempty" doc:"of your own: names and texts"`
	Status     string            `json:"status,omitempty" enum:"CREATED,APPROVED,REJECTED" doc:"left out: as it is; of a new application: APPROVED"`
	Scopes     []string          `json:"scopes,omitempty" doc:"of the management plane (tollgate:*); only an administrator can give them"`
}

func applications() *managed[keymanager.Application, ApplicationSpec] {
	return &managed[keymanager.Application, ApplicationSpec]{
		kind: kindApplication, rank: 4, put: "put-application",
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.Application, error) {
			return l.application(ctx, org, name)
		},
		build: buildApplication,
		show:  showApplication,
		about: func(_ context.Context, _ *lookup, a *keymanager.Application) (Object[ApplicationSpec], error) {
			return Object[ApplicationSpec]{
				Organization: string(a.Organization), Name: a.Name, ID: string(a.ID), BuiltIn: a.BuiltIn,
				Revision: a.Revision, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
			}, nil
		},
		id: func(a *keymanager.Application) any { return a.ID },
		create: func(ctx context.Context, tx *txn, a *keymanager.Application) error {
			return tx.st.CreateApplication(ctx, a)
		},
		update: func(ctx context.Context, tx *txn, a *keymanager.Application) error {
			return tx.st.UpdateApplication(ctx, a)
		},
		remove: func(ctx context.Context, tx *txn, a *keymanager.Application) error {
			if err := guardApplication(tx.caller, a); err != nil {
				return err
			}
			return tx.st.DeleteApplication(ctx, a.ID)
		},
	}
}

func showApplication(ctx context.Context, l *lookup, a *keymanager.Application) (*ApplicationSpec, error) {
	owner, err := l.userByID(ctx, a.Owner)
	if err != nil {
		return nil, err
	}
	s := &ApplicationSpec{
		Owner: shortUser(owner), Tier: string(a.Tier), TokenType: string(a.TokenType),
		Status: string(a.Status), Scopes: texts(a.Scopes),
	}
	if len(a.Attributes) > 0 {
		s.Attributes = maps.Clone(a.Attributes)
	}
	return s, nil
}

func buildApplication(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *ApplicationSpec, old *keymanager.Application) (*keymanager.Application, error) {
	a := &keymanager.Application{
		Organization: org, Name: name, Tier: keymanager.TierName(s.Tier),
		TokenType: keymanager.TokenType(s.TokenType), Attributes: s.Attributes,
		Status: keymanager.ApplicationStatus(s.Status), Scopes: named[keymanager.Scope](s.Scopes),
	}
	if a.Tier == "" {
		a.Tier = keymanager.Unlimited
	}
	if a.TokenType == "" {
		a.TokenType = keymanager.OpaqueToken
	}
	was := keymanager.ApplicationApproved
	if old != nil {
		if err := guardApplication(tx.caller, old); err != nil {
			return nil, err
		}
		a.ID, a.Meta, was = old.ID, old.Meta, old.Status
	} else {
		id, err := tx.newID()
		if err != nil {
			return nil, err
		}
		a.ID = keymanager.ApplicationID(id)
	}
	if a.Status == "" {
		a.Status = was
	}
	if err := guardGrant(tx.caller, a, was); err != nil {
		return nil, err
	}
	if s.Owner != "" {
		a.Owner = c.user(ctx, "/owner", org, s.Owner).ID
	}
	c.fields = append(c.fields, keymanager.ValidateApplication(a)...)
	if a.Tier == keymanager.Unauthenticated {
		c.add("/tier", fmt.Sprintf("must not be %s, the tier of calls without a credential", keymanager.Unauthenticated))
	}
	c.tier(ctx, "/tier", org, a.Tier)
	return a, nil
}

// guardApplication refuses a change of an application, or of its keys, that
// would give the caller more rights than it has: whoever can make a secret of
// an application can act as it.
func guardApplication(c Caller, a *keymanager.Application) error {
	if a.BuiltIn {
		return keymanager.Errorf(keymanager.KindConflict, "the application %q is the key manager's own and cannot be changed", a.Name)
	}
	return guardScopes(c, a)
}

// guardScopes keeps applications of the management plane for administrators.
func guardScopes(c Caller, a *keymanager.Application) error {
	if len(a.Scopes) > 0 && !c.has(keymanager.ScopeAdmin) {
		return keymanager.Errorf(keymanager.KindForbidden, "the application %q has scopes of the management plane: it takes %s to change it or its keys", a.Name, keymanager.ScopeAdmin)
	}
	return nil
}

// guardGrant keeps what only an administrator decides from other callers.
func guardGrant(c Caller, a *keymanager.Application, was keymanager.ApplicationStatus) error {
	if c.has(keymanager.ScopeAdmin) {
		return nil
	}
	if len(a.Scopes) > 0 {
		return forbidden("/scopes", "it takes %s to give an application scopes of the management plane", keymanager.ScopeAdmin)
	}
	if a.Status != was {
		return forbidden("/status", "it takes %s to change the status of an application", keymanager.ScopeAdmin)
	}
	return nil
}

func applicationResource(k *managed[keymanager.Application, ApplicationSpec]) resource[keymanager.Application, ApplicationSpec] {
	return resource[keymanager.Application, ApplicationSpec]{
		kind: k, one: "application", many: "applications",
		collection: "/organizations/{org}/applications", item: "/{name}",
		list: func(ctx context.Context, st store.Store, org keymanager.OrganizationID, p store.Page) ([]keymanager.Application, int, error) {
			return st.Applications(ctx, org, p)
		},
	}
}

func mountApplications(m *mount) {
	r := applicationResource(applications())
	m.kinds[r.kind.kind] = r.kind
	mountManaged(m, r)
}
