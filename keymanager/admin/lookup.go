package admin

import (
	"context"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// lookup finds objects by name and by id: first those that the same apply is
// going to write, then those in the store. What it has read once it does not
// read again.
type lookup struct {
	st     store.Store
	byName map[ref]any
	byID   map[any]any // by an identifier of a type of keymanager
	failed map[ref]bool
}

// ref names an object of a kind.
type ref struct {
	kind string
	org  keymanager.OrganizationID
	name string
}

func newLookup(st store.Store) *lookup {
	return &lookup{st: st, byName: map[ref]any{}, byID: map[any]any{}, failed: map[ref]bool{}}
}

// remember makes an object known as if it were stored.
func (l *lookup) remember(r ref, id, object any) {
	l.byName[r] = object
	l.byID[id] = object
}

// fail notes that a document is wrong: that it is missed elsewhere is no
// further problem.
func (l *lookup) fail(r ref) { l.failed[r] = true }

func readNamed[T any](l *lookup, r ref, read func() (*T, error)) (*T, error) {
	if v, ok := l.byName[r].(*T); ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		l.byName[r] = v
	}
	return v, err
}

func readByID[T any](l *lookup, id any, read func() (*T, error)) (*T, error) {
	if v, ok := l.byID[id].(*T); ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		l.byID[id] = v
	}
	return v, err
}

func (l *lookup) organization(ctx context.Context, id keymanager.OrganizationID) (*keymanager.Organization, error) {
	return readByID(l, id, func() (*keymanager.Organization, error) { return l.st.Organization(ctx, id) })
}

func (l *lookup) user(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.User, error) {
	domain, user := splitUser(name)
	return readNamed(l, ref{kindUser, org, domain + "/" + user}, func() (*keymanager.User, error) {
		return l.st.UserByName(ctx, org, domain, user)
	})
}

func (l *lookup) userByID(ctx context.Context, id keymanager.UserID) (*keymanager.User, error) {
	return readByID(l, id, func() (*keymanager.User, error) { return l.st.User(ctx, id) })
}

func (l *lookup) tier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) (*keymanager.Tier, error) {
	return readNamed(l, ref{kindTier, org, string(name)}, func() (*keymanager.Tier, error) { return l.st.Tier(ctx, org, name) })
}

func (l *lookup) api(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.API, error) {
	return readNamed(l, ref{kindAPI, org, name}, func() (*keymanager.API, error) {
		n, version, _ := strings.Cut(name, "/")
		return l.st.APIByName(ctx, org, n, version)
	})
}

func (l *lookup) apiByID(ctx context.Context, id keymanager.APIID) (*keymanager.API, error) {
	return readByID(l, id, func() (*keymanager.API, error) { return l.st.API(ctx, id) })
}

func (l *lookup) application(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.Application, error) {
	return readNamed(l, ref{kindApplication, org, name}, func() (*keymanager.Application, error) {
		return l.st.ApplicationByName(ctx, org, name)
	})
}

func (l *lookup) applicationByID(ctx context.Context, id keymanager.ApplicationID) (*keymanager.Application, error) {
	return readByID(l, id, func() (*keymanager.Application, error) { return l.st.Application(ctx, id) })
}

// unresolved stands for the id of an object that was not found; nothing with it
// is ever written.
const unresolved = "-"

// checks collects what is wrong with a document's references.
type checks struct {
	look   *lookup
	fields []keymanager.FieldError
	err    error // the first that is not "no such object"
	// unresolved: it refers to a document that has problems of its own.
	unresolved bool
}

func (c *checks) add(at, detail string) {
	c.fields = append(c.fields, keymanager.FieldError{Path: at, Detail: detail})
}

// refer returns v if it was found, and a stand-in if it was not: then there is
// a problem at the pointer at, unless the object is a document that has
// problems of its own.
func refer[T any](c *checks, at string, r ref, v *T, err error, standIn *T) *T {
	switch {
	case err == nil:
		return v
	case !keymanager.IsNotFound(err):
		if c.err == nil {
			c.err = err
		}
	case c.look.failed[r]:
		c.unresolved = true
	default:
		c.add(at, "there is no "+r.kind+" \""+r.name+"\" in the organization "+string(r.org))
	}
	return standIn
}

func (c *checks) user(ctx context.Context, at string, org keymanager.OrganizationID, name string) *keymanager.User {
	v, err := c.look.user(ctx, org, name)
	domain, user := splitUser(name)
	return refer(c, at, ref{kindUser, org, domain + "/" + user}, v, err, &keymanager.User{ID: unresolved})
}

func (c *checks) tier(ctx context.Context, at string, org keymanager.OrganizationID, name keymanager.TierName) {
	v, err := c.look.tier(ctx, org, name)
	refer(c, at, ref{kindTier, org, string(name)}, v, err, nil)
}

func (c *checks) api(ctx context.Context, at string, org keymanager.OrganizationID, name string) *keymanager.API {
	v, err := c.look.api(ctx, org, name)
	return refer(c, at, ref{kindAPI, org, name}, v, err, nil)
}

func (c *checks) application(ctx context.Context, at string, org keymanager.OrganizationID, name string) *keymanager.Application {
	v, err := c.look.application(ctx, org, name)
	return refer(c, at, ref{kindApplication, org, name}, v, err, nil)
}
