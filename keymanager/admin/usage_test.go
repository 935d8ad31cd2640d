package admin_test

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

func TestUsage(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	pets := w.want(200, system, "GET", inDefault+"/apis/pets/1.0.0", "")
	id := pets.text("id")
	call := func(n int64, ago time.Duration, change func(*store.UsageRecord)) store.UsageRecord {
		r := store.UsageRecord{
			Source: 1, Number: n, At: w.now.Add(-ago), Request: "r", Gateway: "envoy-1", Group: "edge", Organization: "other", Application: "app-1",
			User: "alice", Method: "GET", Status: 200, Duration: 1500 * time.Microsecond,
		}
		r.API = "" // of no API
		if change != nil {
			change(&r)
		}
		return r
	}
	ofPets := func(r *store.UsageRecord) { r.API = keymanager.APIID(id) }
	err := w.store.AddUsage(t.Context(), []store.UsageRecord{
		call(1, time.Minute, ofPets),
		call(2, 2*time.Hour, ofPets),
		call(3, 48*time.Hour, ofPets),
		call(4, time.Minute, nil),
		call(5, time.Minute, func(r *store.UsageRecord) {
			r.Organization, r.Status, r.Fault, r.Application = "", 404, store.FaultOther, ""
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	number := func(a answer, path string, want float64) {
		t.Helper()
		if got := a.at(path); got != want {
			t.Errorf("%s is %v, want %v in %s", path, got, want, a.body)
		}
	}
	day := w.want(200, publisher, "GET", inDefault+"/usage?by=api", "")
	number(day, "items/0/calls", 2)
	number(day, "items/0/p95", 1.5)
	number(day, "total", 1)
	if day.text("items/0/key") != id || day.text("items/0/name") != "pets 1.0.0" {
		t.Errorf("by API: %s", day.body)
	}
	hours := w.want(200, publisher, "GET", inDefault+"/usage?step=hour&from=2026-04-01T00:00:00Z&api="+id, "")
	number(hours, "total", 3)
	if hours.text("items/0/at") != "2026-04-29T12:00:00Z" {
		t.Errorf("by hour: %s", hours.body)
	}
	// The stranger sees its own alone, whatever it asks for.
	number(w.want(200, stranger, "GET", "/organizations/other/usage?api="+id, ""), "total", 0)
	number(w.want(200, stranger, "GET", "/organizations/other/usage", ""), "items/0/calls", 1)
	w.want(404, stranger, "GET", inDefault+"/usage", "")
	all := w.want(200, system, "GET", "/usage?by=application", "")
	number(all, "total", 2)
	if all.text("items/1/key") != "unknown" {
		t.Errorf("calls of no application: %s", all.body)
	}
	one := w.want(200, orgAdmin, "GET", inDefault+"/usage/records?limit=1", "")
	number(one, "total", 2)
	if one.text("items/0/user") != "alice" || one.text("items/0/gateway") != "envoy-1" {
		t.Errorf("records: %s", one.body)
	}
	for _, query := range []string{
		"from=2026-05-01T00:00:00Z&to=2026-04-01T00:00:00Z", "step=hour&from=2020-01-01T00:00:00Z",
	} {
		w.want(400, publisher, "GET", inDefault+"/usage?"+query, "")
	}
	for _, query := range []string{"by=color", "step=minute", "from=yesterday", "limit=1001", "who=me"} {
		if got := w.do(publisher, "GET", inDefault+"/usage?"+query, ""); got.status != 400 && got.status != 422 {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}
