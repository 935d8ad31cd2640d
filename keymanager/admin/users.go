package admin

import (
	"context"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// UserSpec is the JSON of a user.
type UserSpec struct {
	Email  string `json:"email,omitempty" format:"email" doc:"one address, without a display name"`
	Status string `json:"status,omitempty" enum:"ACTIVE,DISABLED" doc:"left out: as it is; of a new user: ACTIVE"`
}

// splitUser reads DOMAIN/name, or a name of the key manager's own domain.
func splitUser(s string) (domain, name string) {
	if domain, name, ok := strings.Cut(s, "/"); ok {
		return domain, name
	}
	return keymanager.PrimaryUserStore, s
}

// shortUser is the inverse of splitUser.
func shortUser(u *keymanager.User) string {
	if u.UserStore == keymanager.PrimaryUserStore {
		return u.Name
	}
	return u.FullName()
}

func users() *managed[keymanager.User, UserSpec] {
	return &managed[keymanager.User, UserSpec]{
		kind: kindUser, rank: 2, put: "put-user",
		identify: func(name string, _ *UserSpec, _ *checks) string {
			domain, user := splitUser(name)
			return domain + "/" + user
		},
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.User, error) {
			return l.user(ctx, org, name)
		},
		build: buildUser,
		show: func(_ context.Context, _ *lookup, u *keymanager.User) (*UserSpec, error) {
			return &UserSpec{Email: u.Email, Status: string(u.Status)}, nil
		},
		about: func(_ context.Context, _ *lookup, u *keymanager.User) (Object[UserSpec], error) {
			return Object[UserSpec]{
				Organization: string(u.Organization), Name: shortUser(u), ID: string(u.ID),
				Revision: u.Revision, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt,
			}, nil
		},
		id:     func(u *keymanager.User) any { return u.ID },
		create: func(ctx context.Context, tx *txn, u *keymanager.User) error { return tx.st.CreateUser(ctx, u) },
		update: func(ctx context.Context, tx *txn, u *keymanager.User) error { return tx.st.UpdateUser(ctx, u) },
		remove: func(ctx context.Context, tx *txn, u *keymanager.User) error { return tx.st.DeleteUser(ctx, u.ID) },
	}
}

func buildUser(_ context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *UserSpec, old *keymanager.User) (*keymanager.User, error) {
	domain, user := splitUser(name)
	u := &keymanager.User{
		Organization: org, Name: user, UserStore: domain,
		Email: s.Email, Status: keymanager.UserStatus(s.Status),
	}
	if old != nil {
		u.ID, u.Meta = old.ID, old.Meta
	} else {
		id, err := tx.newID()
		if err != nil {
			return nil, err
		}
		u.ID = keymanager.UserID(id)
	}
	switch {
	case u.Status != "":
	case old != nil:
		u.Status = old.Status
	default:
		u.Status = keymanager.UserActive
	}
	c.fields = append(c.fields, keymanager.ValidateUser(u)...)
	if u.Status == keymanager.UserDisabled && org == SystemOrganization && u.FullName() == keymanager.PrimaryUserStore+"/"+AdminUser {
		c.add("/status", "must stay "+string(keymanager.UserActive)+": he owns the built-in application, without which nobody administers the system")
	}
	return u, nil
}

func mountUsers(m *mount) {
	k := users()
	m.kinds[k.kind] = k
	mountManaged(m, resource[keymanager.User, UserSpec]{
		kind: k, one: "user", many: "users",
		collection: "/organizations/{org}/users", item: "/{domain}/{name}",
		list: func(ctx context.Context, st store.Store, org keymanager.OrganizationID, p store.Page) ([]keymanager.User, int, error) {
			return st.Users(ctx, org, p)
		},
	})
}
