// Package storetest holds the suite that every implementation of store.Store
// passes, one file for each noun, and starts the database servers that tests
// need. Only tests import it.
package storetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// Run checks a store against its contract. open returns an empty, migrated
// store, on the system's clock, that is closed when its test ends; it is called
// once for each test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"Organizations", testOrganizations},
		{"Users", testUsers},
		{"Tiers", testTiers},
		{"APIs", testAPIs},
		{"Routes", testRoutes},
		{"Applications", testApplications},
		{"Clients", testClients},
		{"ClientFacts", testClientFacts},
		{"APIKeys", testAPIKeys},
		{"Subscriptions", testSubscriptions},
		{"Tokens", testTokens},
		{"TokenFacts", testTokenFacts},
		{"APIKeyFacts", testAPIKeyFacts},
		{"Transactions", testTransactions},
		{"Log", testLog},
		{"Prune", testPrune},
		{"Wake", testWake},
		{"Concurrency", testConcurrency},
		{"Audit", testAudit},
		{"Usage", testUsage},
		{"UsageSums", testUsageSums},
		{"UnstorableText", testUnstorableText},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get ends the test on an error, and returns the value.
func get[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// wantKind fails the test unless err is of kind k.
func wantKind(t *testing.T, what string, err error, k keymanager.Kind) {
	t.Helper()
	var known *keymanager.Error
	if !errors.As(err, &known) || known.Kind != k {
		t.Errorf("%s: error %v, want one of kind %d", what, err, k)
	}
}

func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// head reads the number of the last event.
func head(t *testing.T, s store.Store) uint64 {
	t.Helper()
	return get(s.Head(t.Context()))(t).Seq
}

// wantEvents runs write and checks the events that it appends, in any order.
func wantEvents(t *testing.T, s store.Store, what string, write func() error, want ...store.LogEvent) {
	t.Helper()
	before := head(t, s)
	if err := write(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := get(s.Events(t.Context(), before, 1000))(t)
	for i := range got {
		if got[i].Seq != before+1+uint64(i) {
			t.Errorf("%s: event %d has number %d", what, before+1+uint64(i), got[i].Seq)
		}
		got[i].Seq = 0
	}
	var missing []store.LogEvent
	for _, w := range want {
		i := slices.IndexFunc(got, func(g store.LogEvent) bool { return cmp.Equal(g, w) })
		if i < 0 {
			missing = append(missing, w)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	if len(got)+len(missing) > 0 {
		t.Errorf("%s: events missing or too many (-want +got):\n%s", what, cmp.Diff(missing, got))
	}
}

// wantFails runs a write that fails, and checks that nothing was appended.
func wantFails(t *testing.T, s store.Store, what string, k keymanager.Kind, write func() error) {
	t.Helper()
	before := head(t, s)
	wantKind(t, what, write(), k)
	if after := head(t, s); after != before {
		t.Errorf("%s: failed, and appended %d events", what, after-before)
	}
}

// eventually polls until ok, for at most half a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within half a minute: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func staleApp(id keymanager.ApplicationID) store.LogEvent {
	return store.LogEvent{Stale: &keymanager.Stale{Application: id}}
}
