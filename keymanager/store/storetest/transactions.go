package storetest

import (
	"errors"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testTransactions(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	before := head(t, s)

	// All of it or nothing, in the order of the calls, each event once.
	a := newAPI(w.Org.ID, "Orders")
	pos, err := s.InTx(ctx, func(tx store.Store) error {
		if err := tx.CreateAPI(ctx, &a); err != nil {
			return err
		}
		if a.Position != 0 {
			t.Errorf("position %d before the commit", a.Position)
		}
		if _, err := tx.API(ctx, a.ID); err != nil {
			t.Errorf("a transaction does not see its own write: %v", err)
		}
		for range 3 {
			if err := tx.UpdateApplication(ctx, &w.Application); err != nil {
				return err
			}
		}
		inner, err := tx.InTx(ctx, func(same store.Store) error { return same.UpdateSubscription(ctx, &w.Subscription) })
		if inner != (keymanager.Position{}) {
			t.Errorf("an inner InTx answers %v", inner)
		}
		return errors.Join(err, tx.UpdateAPI(ctx, &a), tx.Append(ctx, store.LogEvent{Stale: &keymanager.Stale{User: "u"}}))
	})
	must(t, err)
	if pos != get(s.Head(ctx))(t) || pos.Seq != before+3 || pos.Epoch == (keymanager.Epoch{}) {
		t.Errorf("position %v, head before it %d", pos, before)
	}
	wantSame(t, "events", get(s.Events(ctx, before, 10))(t), []store.LogEvent{
		{Seq: before + 1, API: a.ID}, {Seq: before + 2, Stale: &keymanager.Stale{Application: w.Application.ID}},
		{Seq: before + 3, Stale: &keymanager.Stale{User: "u"}}})
	if a.Position != before+1 {
		t.Errorf("position %d, want %d", a.Position, before+1)
	}
	wantSame(t, "API", get(s.API(ctx, a.ID))(t), &a)

	// A transaction that only reads, or whose writes no gateway needs to know.
	pos, err = s.InTx(ctx, func(tx store.Store) error {
		u := newUser(w.Org.ID, "bob")
		return tx.CreateUser(ctx, &u)
	})
	if pos != (keymanager.Position{}) || err != nil {
		t.Errorf("no event: %v, %v", pos, err)
	}

	before = head(t, s)
	failing := errors.New("changed my mind")
	undone := func(what string, fn func(tx store.Store) error) {
		t.Helper()
		meta, revision := a.Meta, w.Application.Revision
		fresh := newAPI(w.Org.ID, "Fresh")
		_, err := s.InTx(ctx, func(tx store.Store) error {
			a.State = keymanager.StateRetired
			if err := errors.Join(tx.UpdateAPI(ctx, &a), tx.UpdateApplication(ctx, &w.Application), tx.CreateAPI(ctx, &fresh)); err != nil {
				t.Error(err)
			}
			return fn(tx)
		})
		if err == nil {
			t.Errorf("%s: committed", what)
		}
		if what == "error" && !errors.Is(err, failing) {
			t.Errorf("%s: %v is not the error of fn", what, err)
		}
		if a.Meta != meta || w.Application.Revision != revision || fresh.Meta != (keymanager.Meta{}) {
			t.Errorf("%s: Meta is that of the transaction that was rolled back", what)
		}
		if h := head(t, s); h != before {
			t.Errorf("%s: head %d, want %d", what, h, before)
		}
		if got := get(s.API(ctx, a.ID))(t); got.State != keymanager.StatePublished {
			t.Errorf("%s: the write is there", what)
		}
	}
	undone("error", func(store.Store) error { return failing })
	undone("a failed statement that fn ignores", func(tx store.Store) error {
		u := newUser(w.Org.ID, "alice")
		wantKind(t, "same name", tx.CreateUser(ctx, &u), keymanager.KindConflict)
		return nil
	})
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v", r)
			}
		}()
		undone("panic", func(store.Store) error { panic("boom") })
	}()
	if h := head(t, s); h != before {
		t.Errorf("after a panic: head %d, want %d", h, before)
	}
	must(t, s.UpdateApplication(ctx, &w.Application)) // the store works on
}
