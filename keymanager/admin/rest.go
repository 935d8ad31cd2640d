package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// resource is how a kind stands in the URLs.
type resource[T, S any] struct {
	kind *managed[T, S]
	// one and many are the words of the operation ids: get-one, list-many.
	one, many string
	// collection and item are paths below Prefix; item adds to collection.
	collection, item string
	// list reads a page. nil: the kind lists itself.
	list func(ctx context.Context, st store.Store, org keymanager.OrganizationID, p store.Page) ([]T, int, error)
	// veil takes out of a spec what a caller may not see; nil: nothing.
	veil func(c Caller, s *S)
}

type listIn struct{ PageQuery }

type putIn[S any] struct {
	Conditions
	Body document[S]
}

type deleteIn struct{ Conditions }

// mountManaged mounts list, get, put and delete of a kind.
func mountManaged[T, S any](m *mount, r resource[T, S]) {
	s, k := m.server, r.kind
	if r.list != nil {
		route(m, operation{id: "list-" + r.many, method: http.MethodGet, path: r.collection, tag: k.kind, summary: "List " + inWords(r.many)},
			func(ctx context.Context, in *listIn) (*pageOut[Object[S]], error) {
				org := requestOf(ctx).organization()
				if org != "" {
					if _, err := s.Store.Organization(ctx, org); err != nil {
						return nil, orNoOrganization(err, org)
					}
				}
				list, total, err := r.list(ctx, s.Store, org, in.page())
				if err != nil {
					return nil, err
				}
				items, err := r.show(ctx, s.Store, list)
				return &pageOut[Object[S]]{Body: listOf(items, total, in.PageQuery)}, err
			})
	}
	route(m, operation{id: "get-" + r.one, method: http.MethodGet, path: r.collection + r.item, tag: k.kind, summary: "Show one of the " + inWords(r.many)},
		func(ctx context.Context, _ *nothing) (*objectOut[S], error) {
			org, name := r.ref(ctx)
			l := newLookup(s.Store)
			t, err := k.find(ctx, l, org, name)
			if err != nil {
				return nil, err
			}
			o, err := k.object(ctx, l, t)
			if r.veil != nil {
				r.veil(requestOf(ctx).caller, &o.Spec)
			}
			return &objectOut[S]{Status: http.StatusOK, ETag: etag(o.Revision), Body: o}, err
		})
	route(m, operation{id: k.put, method: http.MethodPut, path: r.collection + r.item, tag: k.kind, makes: true, summary: "Make one of the " + inWords(r.many) + ", or replace it"},
		func(ctx context.Context, in *putIn[S]) (*objectOut[S], error) {
			spec, err := in.Body.read()
			if err != nil {
				return nil, err
			}
			org, name := r.ref(ctx)
			return put(ctx, s, r, org, name, spec, in.Conditions)
		})
	route(m, operation{id: "delete-" + r.one, method: http.MethodDelete, path: r.collection + r.item, tag: k.kind, summary: "Delete one of the " + inWords(r.many)},
		func(ctx context.Context, in *deleteIn) (*nothing, error) {
			org, name := r.ref(ctx)
			return &nothing{}, s.write(ctx, in.Conditions, func(tx *txn) error {
				return k.delete(ctx, tx, org, name, in.Conditions)
			})
		})
}

// inWords is a collection as people write it.
func inWords(many string) string { return strings.Replace(many, "apis", "APIs", 1) }

// ref reads which object a request is about.
func (r resource[T, S]) ref(ctx context.Context) (keymanager.OrganizationID, string) {
	req := requestOf(ctx)
	var parts []string
	for _, p := range pathParam.FindAllStringSubmatch(r.item, -1) {
		parts = append(parts, req.param(p[1]))
	}
	return req.organization(), strings.Join(parts, "/")
}

// show shows a page. An object that went while it was read is left out.
func (r resource[T, S]) show(ctx context.Context, st store.Store, list []T) ([]Object[S], error) {
	l := newLookup(st)
	items := make([]Object[S], 0, len(list))
	for i := range list {
		o, err := r.kind.object(ctx, l, &list[i])
		if keymanager.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.veil != nil {
			r.veil(requestOf(ctx).caller, &o.Spec)
		}
		items = append(items, o)
	}
	return items, nil
}

// url returns where an object is.
func (r resource[T, S]) url(org keymanager.OrganizationID, name string) string {
	return Prefix + strings.Replace(r.collection, "{org}", url.PathEscape(string(org)), 1) + pathOf(strings.Split(name, "/"))
}

// put makes or replaces the object at name, and shows it as it is then.
func put[T, S any](ctx context.Context, s *server, r resource[T, S], org keymanager.OrganizationID, name string, spec *S, cond Conditions) (*objectOut[S], error) {
	var out *objectOut[S]
	err := s.write(ctx, cond, func(tx *txn) error {
		c := &checks{look: tx.look}
		full := name
		if r.kind.identify != nil {
			full = r.kind.identify(name, spec, c)
		}
		var err error
		out, err = putSpec(ctx, tx, r, c, org, full, spec, cond)
		return err
	})
	return out, err
}

// modify changes a part of the spec of an object that is there.
func modify[T, S any](ctx context.Context, s *server, r resource[T, S], org keymanager.OrganizationID, name string, cond Conditions, edit func(*S)) (*objectOut[S], error) {
	var out *objectOut[S]
	err := s.write(ctx, cond, func(tx *txn) error {
		t, err := r.kind.find(ctx, tx.look, org, name)
		if err != nil {
			return err
		}
		spec, err := r.kind.show(ctx, tx.look, t)
		if err != nil {
			return err
		}
		edit(spec)
		out, err = putSpec(ctx, tx, r, &checks{look: tx.look}, org, name, spec, cond)
		return err
	})
	return out, err
}

func putSpec[T, S any](ctx context.Context, tx *txn, r resource[T, S], c *checks, org keymanager.OrganizationID, name string, spec *S, cond Conditions) (*objectOut[S], error) {
	ch, t, err := r.kind.planned(ctx, tx, c, org, name, spec)
	if err != nil {
		return nil, err
	}
	if ch == nil {
		return nil, keymanager.Invalid("the body is not valid", c.fields)
	}
	if err := cond.hold(ch.revision); err != nil {
		return nil, err
	}
	if err := ch.write(ctx, tx); err != nil {
		return nil, err
	}
	o, err := r.kind.object(ctx, tx.look, t)
	if err != nil {
		return nil, err
	}
	out := &objectOut[S]{Status: http.StatusOK, ETag: etag(o.Revision), Body: o}
	if ch.action == actionCreated {
		out.Status, out.Location = http.StatusCreated, r.url(org, name)
	}
	return out, nil
}

// delete removes the object at name.
func (k *managed[T, S]) delete(ctx context.Context, tx *txn, org keymanager.OrganizationID, name string, cond Conditions) error {
	t, err := k.find(ctx, tx.look, org, name)
	if err != nil {
		return err
	}
	o, err := k.object(ctx, tx.look, t)
	if err != nil {
		return err
	}
	if cond.given() {
		if err := cond.hold(o.Revision); err != nil {
			return err
		}
		// Deleting takes no revision, writing does: from here on it is the one
		// that was asked for.
		if err := k.update(ctx, tx, t); err != nil {
			return err
		}
	}
	if err := k.remove(ctx, tx, t); err != nil {
		return inUse(err, k.kind, name)
	}
	return tx.audit(ctx, org, "delete", k.kind, name, o.Spec, nil)
}

// usersOf says what stands in the way when an object of a kind is deleted.
var usersOf = map[string]string{
	kindOrganization: "its users, APIs, applications and subscriptions",
	kindTier:         "the APIs, applications and subscriptions that name it",
	kindUser:         "the applications it owns",
	kindAPI:          "its subscriptions",
}

// inUse gives the store's refusal to delete what others refer to in the words
// that people know the object by. It is the one conflict that has a cause.
func inUse(err error, kind, name string) error {
	e, ok := errors.AsType[*keymanager.Error](err)
	if !ok || e.Kind != keymanager.KindConflict || e.Err == nil || usersOf[kind] == "" {
		return err
	}
	return &keymanager.Error{Kind: e.Kind, Err: e.Err,
		Detail: fmt.Sprintf("the %s %q is still in use; delete before it: %s", kind, name, usersOf[kind])}
}
