package admin

import (
	"context"
	"reflect"

	"tollgate/keymanager"
)

// The kinds of documents and objects.
const (
	kindOrganization = "Organization"
	kindTier         = "Tier"
	kindUser         = "User"
	kindAPI          = "API"
	kindApplication  = "Application"
	kindKey          = "Key"
	kindSubscription = "Subscription"
	kindSecret       = "Secret"
	kindAPIKey       = "APIKey"
	kindToken        = "Token"
)

// managed is one kind of object that is made, changed and deleted by name: T
// as the key manager knows it, S as JSON. REST and apply both run on it.
type managed[T, S any] struct {
	kind string
	rank int // apply writes lower ranks first
	// put is the operation whose right apply asks for.
	put string

	// identify completes a name with what the spec says of it.
	identify func(name string, s *S, c *checks) string
	find     func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*T, error)
	// build makes the object that s describes; old is what is stored, or nil.
	// What is wrong goes to c.
	build func(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *S, old *T) (*T, error)
	// show is the inverse of build.
	show func(ctx context.Context, l *lookup, t *T) (*S, error)
	// about returns the identity of an object.
	about func(ctx context.Context, l *lookup, t *T) (Object[S], error)
	// id returns its identifier, of a type of keymanager.
	id func(t *T) any

	create, update, remove func(ctx context.Context, tx *txn, t *T) error
	// issue completes a new object after it was written, with what is shown
	// once; nil: nothing is.
	issue func(ctx context.Context, tx *txn, t *T) (*Issued, error)
}

// kind is a managed kind as apply sees it.
type kind interface {
	order() int
	right() right
	// read takes the spec of a document; it completes the name.
	read(name string, spec any, c *checks) (string, any)
	plan(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, spec any) (*change, error)
	kindName() string
}

// change is a planned write of one object.
type change struct {
	ref           ref
	action        string // one of the actions below
	before, after any    // specs; nil before: a new object
	revision      int64  // that it was planned on; 0: there was none
	write         func(ctx context.Context, tx *txn) error
	issued        *Issued // set by write
}

// What a change does.
const (
	actionCreated   = "created"
	actionUpdated   = "updated"
	actionUnchanged = "unchanged"
)

func (k *managed[T, S]) order() int       { return k.rank }
func (k *managed[T, S]) right() right     { return rights[k.put] }
func (k *managed[T, S]) kindName() string { return k.kind }

func (k *managed[T, S]) read(name string, spec any, c *checks) (string, any) {
	var s S
	if spec != nil { // a kind without required fields needs none
		decodeInto(&s, spec, "", &c.fields)
	}
	if k.identify != nil {
		name = k.identify(name, &s, c)
	}
	return name, &s
}

func (k *managed[T, S]) plan(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, spec any) (*change, error) {
	ch, _, err := k.planned(ctx, tx, c, org, name, spec.(*S)) // read made it
	return ch, err
}

// planned checks everything that can be checked before the write. It returns
// no change when c holds a problem, or waits for a document that has one.
func (k *managed[T, S]) planned(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *S) (*change, *T, error) {
	ch := &change{ref: ref{k.kind, org, name}, action: actionCreated}
	if k.kind != kindOrganization {
		if _, err := tx.look.organization(ctx, org); err != nil {
			return nil, nil, orNoOrganization(err, org)
		}
	}
	old, err := found(k.find(ctx, tx.look, org, name))
	if err != nil {
		return nil, nil, err
	}
	if old != nil {
		before, err := k.show(ctx, tx.look, old)
		if err != nil {
			return nil, nil, err
		}
		about, err := k.about(ctx, tx.look, old)
		if err != nil {
			return nil, nil, err
		}
		ch.action, ch.before, ch.revision = actionUpdated, before, about.Revision
	}
	t, err := k.build(ctx, tx, c, org, name, s, old)
	if err != nil || c.err != nil {
		if err == nil {
			err = c.err
		}
		return nil, nil, err
	}
	if len(c.fields) > 0 || c.unresolved {
		return nil, nil, nil
	}
	tx.look.remember(ch.ref, k.id(t), t)
	after, err := k.show(ctx, tx.look, t)
	if err != nil {
		return nil, nil, err
	}
	ch.after = after
	if old != nil && reflect.DeepEqual(ch.before, ch.after) {
		ch.action, ch.write = actionUnchanged, func(context.Context, *txn) error { return nil }
		return ch, old, nil
	}
	ch.write = func(ctx context.Context, tx *txn) error {
		if old != nil {
			if err := k.update(ctx, tx, t); err != nil {
				return err
			}
			return tx.audit(ctx, org, "update", k.kind, name, ch.before, ch.after)
		}
		if err := k.create(ctx, tx, t); err != nil {
			return err
		}
		if err := tx.audit(ctx, org, "create", k.kind, name, nil, ch.after); err != nil || k.issue == nil {
			return err
		}
		ch.issued, err = k.issue(ctx, tx, t)
		return err
	}
	return ch, t, nil
}

// object shows one object.
func (k *managed[T, S]) object(ctx context.Context, l *lookup, t *T) (Object[S], error) {
	o, err := k.about(ctx, l, t)
	if err != nil {
		return o, err
	}
	o.Kind = k.kind
	s, err := k.show(ctx, l, t)
	if err != nil {
		return o, err
	}
	o.Spec = *s
	return o, nil
}
