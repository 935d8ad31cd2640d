package storetest

import (
	"fmt"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// call is a record of a call of w's API by its application.
func call(w *world, number int64, at time.Time) store.UsageRecord {
	return store.UsageRecord{
		Source: -1 << 62, Number: number, At: at, Request: fmt.Sprint("request-", number), Gateway: "envoy-1", Group: "edge",
		Organization: w.Org.ID, API: w.API.ID, APIVersion: w.API.Version, Application: w.Application.ID, Subscription: w.Subscription.ID,
		ConsumerKey: w.Client.ConsumerKey, KeyType: keymanager.Production, Tier: "Gold", User: "FOO.COM/jürgen",
		Method: "GET", Route: "api/" + string(w.API.ID), Status: 200, RequestBytes: 7, ResponseBytes: 1 << 40,
		Duration: 1234567 * time.Microsecond, Upstream: 567 * time.Microsecond,
	}
}

func testUsage(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	all := store.UsageQuery{Organization: w.Org.ID, From: t0.Add(-time.Hour), To: t0.Add(24 * time.Hour)}

	first, refused, unknown := call(w, 1, t0), call(w, 2, t0.Add(time.Minute)), store.UsageRecord{
		Source: 3, Number: 1, At: t0.Add(2 * time.Minute), Gateway: "envoy-2", Status: 404, Fault: store.FaultOther, Flags: "NR",
	}
	refused.Application, refused.Organization, refused.Status, refused.Reason, refused.Fault = "", "", 401, "expired", store.FaultAuth
	refused.Flags = "UAEX"
	for range 2 { // the second time as after a doubtful end of the first
		wantEvents(t, s, "add", func() error { return s.AddUsage(ctx, []store.UsageRecord{first, refused, unknown}) })
	}
	must(t, s.AddUsage(ctx, nil))
	refused.Organization = w.Org.ID // by its API
	records := func(q store.UsageQuery, p store.Page, wantTotal int, want ...store.UsageRecord) {
		t.Helper()
		got, total, err := s.UsageRecords(ctx, q, p)
		must(t, err)
		if total != wantTotal {
			t.Errorf("%d records, want %d", total, wantTotal)
		}
		wantSame(t, "records", got, want)
	}
	records(all, store.Page{}, 2, refused, first)
	records(all, store.Page{Limit: 1, Offset: 1}, 2, first)
	everywhere := all
	everywhere.Organization = ""
	records(everywhere, store.Page{Limit: 1}, 3, unknown)
	one := all
	one.Application, one.API = w.Application.ID, w.API.ID
	records(one, store.Page{}, 1, first)
	one.From, one.To = t0.Add(time.Millisecond), t0.Add(time.Hour)
	records(one, store.Page{}, 0)
	one.From, one.To, one.API = t0, t0.Add(time.Millisecond), "another"
	records(one, store.Page{}, 0)

	wantKind(t, "a text that cannot be stored", s.AddUsage(ctx, []store.UsageRecord{call(w, 9, t0), {Source: 1, Number: 9, User: "\x00"}}), keymanager.KindInvalid)
	records(all, store.Page{}, 2, refused, first)
}

func testUsageSums(t *testing.T, s store.Store) {
	ctx := t.Context()
	w := create(t, s)
	hour := t0.Truncate(time.Hour)
	var records []store.UsageRecord
	for i := range 100 { // durations 1 ms to 100 ms, half of them an hour later
		r := call(w, int64(i), hour.Add(time.Duration(i%2)*time.Hour))
		r.Duration, r.ResponseBytes = time.Duration(i+1)*time.Millisecond, 3
		if i < 10 {
			r.Status, r.Fault = 503, store.FaultTarget
		}
		records = append(records, r)
	}
	gone := call(w, 100, hour)
	gone.API, gone.Status, gone.ResponseBytes, gone.Duration = "gone", 500, 3, time.Millisecond
	must(t, s.AddUsage(ctx, append(records, gone)))

	q := store.UsageQuery{Organization: w.Org.ID, From: hour, To: hour.Add(2 * time.Hour)}
	sums := func(q store.UsageQuery, p store.Page, wantTotal int, want ...store.UsageSum) {
		t.Helper()
		got, total, err := s.SumUsage(ctx, q, p)
		must(t, err)
		if total != wantTotal {
			t.Errorf("by %q: %d rows, want %d", q.By, total, wantTotal)
		}
		wantSame(t, "sums by "+string(q.By), got, want)
	}
	sums(q, store.Page{}, 1, store.UsageSum{Calls: 101, Failed: 10, ServerErrors: 11, RequestBytes: 707, ResponseBytes: 303,
		P50: 50 * time.Millisecond, P95: 95 * time.Millisecond})
	q.By = store.UsageByAPI
	lost := store.UsageSum{Key: "gone", Calls: 1, ServerErrors: 1, RequestBytes: 7, ResponseBytes: 3, P50: time.Millisecond, P95: time.Millisecond}
	kept := store.UsageSum{Key: string(w.API.ID), Name: w.API.Name + " " + w.API.Version, Calls: 100, Failed: 10, ServerErrors: 10,
		RequestBytes: 700, ResponseBytes: 300, P50: 50 * time.Millisecond, P95: 95 * time.Millisecond}
	sums(q, store.Page{}, 2, kept, lost)
	sums(q, store.Page{Limit: 1, Offset: 1}, 2, lost)
	q.By, q.Step, q.API = store.UsageByApplication, time.Hour, w.API.ID
	half := func(at time.Time, p50, p95 time.Duration) store.UsageSum {
		return store.UsageSum{At: at, Key: string(w.Application.ID), Name: w.Application.Name, Calls: 50, Failed: 5, ServerErrors: 5,
			RequestBytes: 350, ResponseBytes: 150, P50: p50, P95: p95}
	}
	sums(q, store.Page{}, 2, half(hour, 49*time.Millisecond, 95*time.Millisecond), half(hour.Add(time.Hour), 50*time.Millisecond, 96*time.Millisecond))
	q.Step, q.API = 0, ""
	for _, by := range []store.UsageDimension{
		store.UsageBySubscription, store.UsageByConsumerKey, store.UsageByTier, store.UsageByUser, store.UsageByStatus,
		store.UsageByReason, store.UsageByFault, store.UsageByGateway,
	} {
		q.By = by
		got, _, err := s.SumUsage(ctx, q, store.Page{})
		must(t, err)
		var calls int64
		for _, row := range got {
			calls += row.Calls
		}
		if calls != 101 {
			t.Errorf("by %s: %d calls", by, calls)
		}
	}

	// Old ones go, the oldest first and no more than asked for.
	for i, want := range []int{40, 11, 0} {
		if n := get(s.DeleteUsage(ctx, hour.Add(time.Hour), 40))(t); n != want {
			t.Errorf("clean-up %d: %d deleted, want %d", i, n, want)
		}
	}
}
