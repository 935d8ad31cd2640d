package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"tollgate/keymanager"
)

// batch is the documents of one apply on their way: read, plan, write, result.
// A document that is wrong does not keep the others from being checked.
type batch struct {
	tx       *txn
	docs     []*planned // those that could be read, in the order of writing
	problems []FieldProblem
}

// planned is a document that could be read.
type planned struct {
	index  int
	kind   kind
	ref    ref
	spec   any // *S of the kind
	change *change
}

// read checks all that a document says by itself: its kind, whether the caller
// may, its spec's schema, and that it stands once.
func (b *batch) read(req *ApplyRequest) {
	first := map[ref]int{}
	for i := range req.Documents {
		d := b.readOne(i, &req.Documents[i], req.Organization)
		if d == nil {
			continue
		}
		if j, twice := first[d.ref]; twice {
			b.problem(i, "/name", fmt.Sprintf("is the same %s as document %d", d.ref.kind, j))
			continue
		}
		first[d.ref] = i
		b.docs = append(b.docs, d)
	}
	slices.SortStableFunc(b.docs, func(x, y *planned) int { return cmp.Compare(x.kind.order(), y.kind.order()) })
}

// readOne returns nil, and leaves problems, for a document that is not to be
// planned.
func (b *batch) readOne(i int, d *Document, fallback string) *planned {
	k, known := b.tx.kinds[d.Kind]
	if !known {
		b.problem(i, "/kind", fmt.Sprintf("must be one of %s, %s, %s, %s, %s, %s, %s; not %q",
			kindOrganization, kindTier, kindUser, kindAPI, kindApplication, kindKey, kindSubscription, shortened(d.Kind)))
		return nil
	}
	if d.Name == "" {
		b.problem(i, "/name", "must be given")
		return nil
	}
	org := organizationOf(d, fallback, b.tx.caller)
	if d.Kind == kindOrganization && string(org) != d.Name {
		b.problem(i, "/organization", "must be the name of the organization itself, or be left out")
		return nil
	}
	before := len(b.problems)
	if !b.tx.caller.reaches(org) {
		b.problem(i, "/organization", noOrganization(org).Detail)
	} else if r := k.right(); !r.allows(b.tx.caller) {
		b.problem(i, "/kind", r.refusal().Detail)
	}
	c := &checks{}
	name, spec := k.read(d.Name, d.Spec, c)
	b.problems = append(b.problems, inDocument(i, c.fields)...)
	p := &planned{index: i, kind: k, ref: ref{d.Kind, org, name}, spec: spec}
	if len(b.problems) > before {
		b.tx.look.fail(p.ref)
		return nil
	}
	return p
}

func organizationOf(d *Document, fallback string, c Caller) keymanager.OrganizationID {
	switch {
	case d.Organization != "":
		return keymanager.OrganizationID(d.Organization)
	case d.Kind == kindOrganization:
		return keymanager.OrganizationID(d.Name)
	case fallback != "":
		return keymanager.OrganizationID(fallback)
	case c.system():
		return DefaultOrganization
	default:
		return c.Organization
	}
}

// plan finds out what each document changes. It fails with all the problems
// there are.
func (b *batch) plan(ctx context.Context) error {
	for _, d := range b.docs {
		c := &checks{look: b.tx.look}
		var err error
		d.change, err = d.kind.plan(ctx, b.tx, c, d.ref.org, d.ref.name, d.spec)
		b.problems = append(b.problems, inDocument(d.index, c.fields)...)
		if err != nil && !b.refused(d, err) {
			return err
		}
		if d.change == nil {
			b.tx.look.fail(d.ref)
		}
	}
	return b.failure()
}

// write makes the changes. After a refusal of the store, a clash with what it
// holds, those of the same kind are still tried, for their clashes; nothing of
// it stays.
func (b *batch) write(ctx context.Context) error {
	refusedAt := -1
	for _, d := range b.docs {
		if refusedAt >= 0 && d.kind.order() != refusedAt {
			break
		}
		err := d.change.write(ctx, b.tx)
		switch {
		case err == nil:
		case b.refused(d, err):
			refusedAt = d.kind.order()
		case refusedAt >= 0:
			return b.failure() // a transaction may be of no more use after a refusal
		default:
			return err
		}
	}
	return b.failure()
}

// refused turns an error that the document is to blame for into problems.
func (b *batch) refused(d *planned, err error) bool {
	e, ok := errors.AsType[*keymanager.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case keymanager.KindInvalid, keymanager.KindConflict, keymanager.KindForbidden:
		if len(e.Fields) > 0 {
			b.problems = append(b.problems, inDocument(d.index, e.Fields)...)
		} else {
			b.problem(d.index, "", e.Detail)
		}
		return true
	case keymanager.KindNotFound: // of the organization: all else is looked up by the checks
		if !b.tx.look.failed[ref{kindOrganization, d.ref.org, string(d.ref.org)}] {
			b.problem(d.index, "/organization", e.Detail)
		}
		return true
	default:
		return false
	}
}

func (b *batch) problem(index int, at, detail string) {
	b.problems = append(b.problems, FieldProblem{Document: &index, Pointer: at, Detail: detail})
}

// failure is the answer when there are problems: in the order of the documents.
func (b *batch) failure() error {
	if len(b.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(b.problems, func(x, y FieldProblem) int { return cmp.Compare(*x.Document, *y.Document) })
	p := newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("nothing was applied: %d problems", len(b.problems)))
	if len(b.problems) == 1 {
		p.Detail = "nothing was applied: 1 problem"
	}
	p.Errors = b.problems[:min(len(b.problems), applyProblems)]
	return p
}

// result says what the documents changed.
func (b *batch) result(dryRun bool) (*ApplyResult, error) {
	out := &ApplyResult{DryRun: dryRun, Documents: make([]DocumentResult, 0, len(b.docs))}
	for _, d := range b.docs {
		r := DocumentResult{
			Document: d.index, Kind: d.ref.kind, Organization: string(d.ref.org), Name: d.ref.name, Action: d.change.action,
		}
		switch d.change.action {
		case actionCreated:
			out.Created++
			if !dryRun {
				r.Secret = d.change.issued
			}
		case actionUpdated:
			out.Updated++
			var err error
			if r.Changes, err = differences(d.change.before, d.change.after, "/spec"); err != nil {
				return nil, err
			}
		default:
			out.Unchanged++
		}
		out.Documents = append(out.Documents, r)
	}
	slices.SortFunc(out.Documents, func(x, y DocumentResult) int { return cmp.Compare(x.Document, y.Document) })
	return out, nil
}
