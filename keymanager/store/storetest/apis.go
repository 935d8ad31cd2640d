package storetest

import (
	"errors"
	"fmt"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func testAPIs(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	a := newAPI(w.Org.ID, "Orders")
	event := store.LogEvent{API: a.ID}
	wantEvents(t, s, "create", func() error { return s.CreateAPI(ctx, &a) }, event)
	if a.Position != head(t, s) || a.Revision != 1 {
		t.Errorf("after create: position %d, revision %d; head %d", a.Position, a.Revision, head(t, s))
	}
	wantSame(t, "by id", get(s.API(ctx, a.ID))(t), &a)
	wantSame(t, "by name", get(s.APIByName(ctx, w.Org.ID, "Orders", "1.0.0"))(t), &a)
	wantKind(t, "by name, other version", second(s.APIByName(ctx, w.Org.ID, "Orders", "2.0.0")), keymanager.KindNotFound)

	bare := keymanager.API{ID: keymanager.APIID(id("api")), Organization: w.Org.ID, Name: "Bare", Version: "1", Context: "/bare"}
	must(t, s.CreateAPI(ctx, &bare))
	wantSame(t, "an API without optional fields", get(s.API(ctx, bare.ID))(t), &bare)

	same := newAPI(w.Org.ID, "Orders")
	wantFails(t, s, "same name and version", keymanager.KindConflict, func() error { return s.CreateAPI(ctx, &same) })
	same.Tiers = []keymanager.TierName{"Tin"}
	same.Version = "2.0.0"
	wantFails(t, s, "unknown tier", keymanager.KindConflict, func() error { return s.CreateAPI(ctx, &same) })

	a.State, a.Timeout, a.CORS, a.Tiers = keymanager.StateBlocked, 0, nil, nil
	a.Resources = a.Resources[1:]
	wantEvents(t, s, "update", func() error { return s.UpdateAPI(ctx, &a) }, event)
	if a.Position != head(t, s) || a.Revision != 2 {
		t.Errorf("after update: position %d, revision %d; head %d", a.Position, a.Revision, head(t, s))
	}
	wantSame(t, "updated", get(s.API(ctx, a.ID))(t), &a)
	old := a
	old.Revision = 1
	wantFails(t, s, "update an old revision", keymanager.KindPrecondition, func() error { return s.UpdateAPI(ctx, &old) })
	wantSame(t, "after a refused update", get(s.API(ctx, a.ID))(t), &a)
	missing := newAPI(w.Org.ID, "Missing")
	wantFails(t, s, "update a missing one", keymanager.KindNotFound, func() error { return s.UpdateAPI(ctx, &missing) })

	page, total, err := s.APIs(ctx, w.Org.ID, store.Page{Offset: 1, Limit: 5})
	must(t, err)
	if total != 3 || len(page) != 2 || page[0].Name != "Orders" || page[1].Name != "Pets" {
		t.Errorf("page: %d of %d", len(page), total)
	}

	wantFails(t, s, "delete one with a subscription", keymanager.KindConflict, func() error { return s.DeleteAPI(ctx, w.API.ID) })
	wantEvents(t, s, "delete", func() error { return s.DeleteAPI(ctx, a.ID) }, event)
	wantFails(t, s, "delete again", keymanager.KindNotFound, func() error { return s.DeleteAPI(ctx, a.ID) })
	wantKind(t, "read a deleted one", second(s.API(ctx, a.ID)), keymanager.KindNotFound)
	must(t, s.CreateAPI(ctx, &a)) // its name and routes are free again

	_, err = s.InTx(ctx, func(s store.Store) error {
		for i := range 1100 { // more than any batch
			b := newAPI(w.Org.ID, fmt.Sprintf("Many %d", i))
			if err := s.CreateAPI(ctx, &b); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	seen := map[keymanager.APIID]bool{}
	must(t, s.AllAPIs(ctx, func(a *keymanager.API) error {
		if a.Position == 0 || seen[a.ID] {
			t.Errorf("API %s: position %d, seen before: %t", a.ID, a.Position, seen[a.ID])
		}
		seen[a.ID] = true
		return nil
	}))
	if len(seen) != 1103 {
		t.Errorf("all APIs: %d, want 1103", len(seen))
	}
	stop := errors.New("enough")
	if err := s.AllAPIs(ctx, func(*keymanager.API) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("AllAPIs returned %v, want the error of fn", err)
	}
}

// testRoutes checks who may answer where, over all organizations.
func testRoutes(t *testing.T, s store.Store) {
	one, two := create(t, s), create(t, s)
	route := func(name, context, version string, p keymanager.Protocol, hosts ...string) keymanager.API {
		return keymanager.API{Name: name, Context: context, Version: version, Protocol: p, Hosts: hosts}
	}
	for i, c := range []struct {
		have, want keymanager.API
		ok         bool
	}{
		{route("a", "/c", "1", "http1"), route("b", "/c", "1", "http1"), false},
		{route("a", "/c", "1", "http1"), route("b", "/c", "2", "http1"), true},
		{route("a", "/c", "1", "http1"), route("b", "/C", "2", "http1"), false}, // another spelling
		{route("a", "/c/d", "1", "http1"), route("b", "/c/D", "1", "http1", "h"), false},
		{route("a", "/c", "1", "http1", "h1"), route("b", "/c", "1", "http1", "h2"), true},
		{route("a", "/c", "1", "http1", "h1", "h2"), route("b", "/c", "1", "http1", "h2", "h3"), false},
		{route("a", "/c", "1", "http1", "h1"), route("b", "/c", "1", "http1", "H1"), false}, // hosts have no case
		{route("a", "/c", "1", "http1"), route("b", "/c", "1", "http1", "h1"), false},       // "" is every host
		{route("a", "/c", "1", "http1", "h1"), route("b", "/c", "1", "http1"), false},
		{route("a", "/p.S", "1", "grpc"), route("b", "/p.S", "2", "grpc"), false}, // no version in the path
		{route("a", "/p.S", "1", "grpc"), route("b", "/p.T", "1", "grpc"), true},
		{route("a", "/c/1", "9", "grpc"), route("b", "/c", "1", "http1"), false}, // the same URL
	} {
		for _, other := range []*world{one, two} {
			t.Run(fmt.Sprintf("%d %s", i, other.Org.ID), func(t *testing.T) {
				ctx := t.Context()
				// A prefix of its own keeps the cases apart.
				prefix := "/" + id("case")
				have, want := c.have, c.want
				have.ID, have.Organization, have.Context = keymanager.APIID(id("api")), one.Org.ID, prefix+have.Context
				want.ID, want.Organization, want.Context = keymanager.APIID(id("api")), other.Org.ID, prefix+want.Context
				have.Name, want.Name = string(have.ID), string(want.ID)
				must(t, s.CreateAPI(ctx, &have))
				if c.ok {
					must(t, s.CreateAPI(ctx, &want))
				} else {
					wantFails(t, s, "create", keymanager.KindConflict, func() error { return s.CreateAPI(ctx, &want) })
					// Nor by moving there later.
					target := want
					want.Context = prefix + "/elsewhere"
					must(t, s.CreateAPI(ctx, &want))
					target.Meta = want.Meta
					wantFails(t, s, "update", keymanager.KindConflict, func() error { return s.UpdateAPI(ctx, &target) })
					// What is given up is free, whatever its spelling.
					must(t, s.DeleteAPI(ctx, have.ID))
					must(t, s.UpdateAPI(ctx, &target))
				}
			})
		}
	}
	t.Run("no organization below another's path", func(t *testing.T) {
		for _, c := range []struct {
			a, b keymanager.API
			ok   bool
		}{
			{route("a", "/c", "1", "http1"), route("b", "/c/1", "2", "http1"), false},
			{route("a", "/c", "1", "http1"), route("b", "/c/1/x/y", "2", "http1"), false},
			{route("a", "/c", "1", "http1", "h1"), route("b", "/c/1", "2", "http1"), false},
			{route("a", "/c", "1", "http1", "h1"), route("b", "/c/1", "2", "http1", "h2"), true},
			{route("a", "/c", "1", "http1"), route("b", "/c/10", "2", "http1"), true}, // whole segments
			{route("a", "/c", "1", "http1"), route("b", "/c/1-0", "2", "http1"), true},
			{route("a", "/c", "1", "http1"), route("b", "/c", "1.1", "http1"), true},
		} {
			for _, other := range []*world{one, two} {
				for _, upward := range []bool{false, true} {
					prefix := "/" + id("case")
					first, second := c.a, c.b
					if upward {
						first, second = second, first
					}
					first.ID, first.Organization, first.Context = keymanager.APIID(id("api")), one.Org.ID, prefix+first.Context
					second.ID, second.Organization, second.Context = keymanager.APIID(id("api")), other.Org.ID, prefix+second.Context
					first.Name, second.Name = string(first.ID), string(second.ID)
					must(t, s.CreateAPI(t.Context(), &first))
					if c.ok || other == one {
						must(t, s.CreateAPI(t.Context(), &second))
						continue
					}
					wantFails(t, s, "create", keymanager.KindConflict, func() error { return s.CreateAPI(t.Context(), &second) })
				}
			}
		}
	})
	t.Run("one API may change its own spelling", func(t *testing.T) {
		a := newAPI(one.Org.ID, id("Spelling"))
		must(t, s.CreateAPI(t.Context(), &a))
		a.Context = "/API" + a.Context[len("/api"):]
		must(t, s.UpdateAPI(t.Context(), &a))
	})
}
