//go:build !short

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// usageMark is in everything that a call has and that no record may keep.
const usageMark = "never-kept"

// feedAPI is a WebSocket API for the application of fleetWorld, and one that
// takes API keys.
const feedAPI = `
{kind: API, organization: default, name: feed, spec: {version: 1.0.0, context: /feed, state: PUBLISHED, protocol: websocket, maxDuration: 1m,
  production: [BACKEND], tiers: [Gold], securitySchemes: [oauth2, api_key, api_key_query], resources: [{method: GET, path: /*}]}}
---
{kind: Subscription, organization: default, name: buyer-feed, spec: {application: buyer, api: feed/1.0.0, tier: Gold}}
`

// kept is what of a record does not depend on time and chance.
type kept struct {
	Gateway, Group, Version, Method, Reason, Fault, Flags string
	Status                                                int
	Received, Sent                                        int64
	// Whether the record has them.
	Organization, API, Application, Subscription, ConsumerKey, KeyType, Tier bool
}

// records returns those of some requests. Each may have one.
func (w *world) records(t *testing.T, requests []string) map[string]kept {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.Postgres.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `SELECT request_id, gateway, gateway_group, api_version, method, reason, fault, flags, status, request_bytes, response_bytes,
		organization <> '', api_id <> '', application_id <> '', subscription_id <> '', consumer_key <> '', key_type <> '', tier <> ''
		FROM usage_record WHERE request_id = ANY($1)`, requests)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]kept{}
	var id string
	var k kept
	_, err = pgx.ForEachRow(rows, []any{
		&id, &k.Gateway, &k.Group, &k.Version, &k.Method, &k.Reason, &k.Fault, &k.Flags, &k.Status, &k.Received, &k.Sent,
		&k.Organization, &k.API, &k.Application, &k.Subscription, &k.ConsumerKey, &k.KeyType, &k.Tier,
	}, func() error {
		if _, again := out[id]; again {
			t.Errorf("request %s has more than one record", id)
		}
		out[id] = k
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// recordsKeepNothing holds all records against what none may have, and returns
// how many there are.
func (w *world) recordsKeepNothing(t *testing.T, secrets ...string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.Postgres.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `SELECT r::text FROM usage_record r`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range all {
		for _, secret := range secrets {
			if strings.Contains(record, secret) {
				t.Errorf("a record has what it must not: %s", record)
			}
		}
	}
	return len(all)
}

// usageCall is a kind of call, and what is kept of it.
type usageCall struct {
	name, path, token, body string
	want                    kept
}

func (c *usageCall) send(t *testing.T, gateway string) rig.Answer {
	t.Helper()
	method := http.MethodGet
	if c.body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+gateway+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", usageMark)
	req.Header.Set("Referer", "http://"+usageMark)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := rig.Answer{Status: res.StatusCode, Header: res.Header, Body: string(body)}
	if a.Status != c.want.Status || a.Header.Get("X-Request-Id") == "" {
		t.Fatalf("%s: %d %v %s", c.name, a.Status, a.Header, a.Body)
	}
	return a
}

// usageSocket is the back end of feedAPI: below /bye it closes WebSockets itself.
func usageSocket(t *testing.T) *envoytest.Backend {
	feed := envoytest.HTTP1(t)
	feed.Respond(func(s envoytest.Seen) envoytest.Response {
		switch {
		case s.Get("upgrade") == nil:
			return envoytest.Response{}
		case s.Path != "/bye":
			return envoytest.Echo()
		}
		return envoytest.Response{Take: func(c net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+usageMark+"\n")
		}}
	})
	return feed
}

// socket opens a WebSocket, hears the mark (of an echo after saying it), and
// closes it or sees it closed. It returns the request id.
func socket(t *testing.T, gateway, path, token string) string {
	t.Helper()
	s := envoytest.Open(t, gateway, envoytest.Request("GET", "/feed/1.0.0/"+path, "localhost",
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", bearer(token)))
	if s.Status != http.StatusSwitchingProtocols {
		t.Fatalf("a WebSocket is answered %d %v", s.Status, s.Header)
	}
	if path != "bye" {
		if _, err := io.WriteString(s, usageMark+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := s.Line(); err != nil || line != usageMark {
		t.Fatalf("heard %q %v", line, err)
	}
	if path == "bye" {
		if rest, err := s.Rest(); err != nil || rest != "" {
			t.Fatalf("the end is %q %v", rest, err)
		}
	}
	_ = s.Close()
	return s.Header.Get("X-Request-Id")
}

// usageCalls are calls of each kind.
func (w *world) usageCalls(key string) []usageCall {
	api := kept{Organization: true, API: true, Version: "1.0.0", Method: "GET"}
	known := api
	known.Application, known.Subscription, known.ConsumerKey, known.KeyType, known.Tier = true, true, true, true, true
	unsubscribed := known
	unsubscribed.Subscription, unsubscribed.Tier = false, false
	byKey := known
	byKey.ConsumerKey = false // an API key has none
	posted := known
	posted.Method, posted.Received = "POST", int64(len(usageMark))
	as := func(k kept, status int, reason, fault string) kept {
		k.Status, k.Reason, k.Fault = status, reason, fault
		if reason != "" {
			k.Flags = "UAEX"
		}
		return k
	}
	return []usageCall{
		{name: "allowed", path: "/shop/1.0.0/items?q=" + usageMark, token: w.good, want: as(known, 200, "", "")},
		{name: "with a body", path: "/shop/1.0.0/items", token: w.good, body: usageMark, want: as(posted, 200, "", "")},
		{name: "an API key", path: "/feed/1.0.0/items?apikey=" + key, want: as(byKey, 200, "", "")},
		{name: "no credential", path: "/shop/1.0.0/items?q=" + usageMark, want: as(api, 401, "missing_credential", "AUTH")},
		{name: "a forged one", path: "/shop/1.0.0/items", token: usageMark, want: as(api, 401, "not_ours", "AUTH")},
		{name: "a revoked one", path: "/shop/1.0.0/items", token: w.dead, want: as(known, 401, "revoked", "AUTH")},
		{name: "no scope", path: "/shop/1.0.0/admin?q=" + usageMark, token: w.good, want: as(known, 403, "insufficient_scope", "AUTH")},
		{name: "no subscription", path: "/bank/1.0.0/items", token: w.good, want: as(unsubscribed, 403, "not_subscribed", "AUTH")},
		{name: "no such resource", path: "/shop/1.0.0/" + usageMark, token: w.good, want: as(api, 403, "no_resource", "AUTH")},
		{name: "no such API", path: "/" + usageMark + "/1.0.0/items", token: w.good, want: kept{Method: "GET", Status: 404, Fault: "OTHER", Flags: "NR"}},
	}
}

// Every call through an Envoy is one record in the database: who, what, how
// large, and nothing else of it. Envoys whose key managers are gone serve on,
// count what they cannot tell, and tell again when one is back.
func TestUsage(t *testing.T) {
	w := newWorld(t, map[string][]string{"gateway": {"usage"}})
	w.admin.Apply(t, strings.ReplaceAll(feedAPI, "BACKEND", usageSocket(t).URL("/")))
	w.everywhere(t, "/feed/1.0.0/items", w.good, 200, "")
	var key struct{ Key string }
	w.admin.Must(t, http.MethodPost, "/organizations/default/applications/buyer/api-keys", map[string]any{"name": "usage", "keyType": "PRODUCTION"}, &key)
	w.Secret(key.Key)

	want, what := map[string]kept{}, map[string]string{} // by request id
	for i, gateway := range w.Gateways {
		note := func(name, id string, k kept) {
			k.Gateway, k.Group = w.Envoys[i].Name, fmt.Sprint("edge-", i+1)
			want[id], what[id] = k, name
		}
		for _, c := range w.usageCalls(key.Key) {
			for range 3 {
				a := c.send(t, gateway)
				c.want.Sent = int64(len(a.Body))
				note(c.name, a.Header.Get("X-Request-Id"), c.want)
			}
		}
		ws := w.usageCalls("")[0].want
		ws.Status, ws.Received, ws.Sent, ws.Flags = 101, int64(len(usageMark)+1), int64(len(usageMark)+1), "DC"
		note("a WebSocket that the caller ends", socket(t, gateway, usageMark, w.good), ws)
		ws.Received, ws.Flags = 0, "UC"
		note("a WebSocket that the back end ends", socket(t, gateway, "bye", w.good), ws)
	}
	if len(want) != len(w.Gateways)*32 {
		t.Fatalf("%d request ids", len(want))
	}
	w.recorded(t, slices.Collect(maps.Keys(want)))
	got := w.records(t, slices.Collect(maps.Keys(want)))
	for id, k := range want {
		if diff := cmp.Diff(k, got[id]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what[id], diff)
		}
	}
	w.usageOutage(t, usageMark, w.good, w.dead, key.Key, w.client.Secret)
}

// usageOutage takes the key managers away and gives them back. What is lost is
// what the docs say: the calls that the Envoys have counted and nobody has kept.
func (w *world) usageOutage(t *testing.T, secrets ...string) {
	t.Helper()
	allowed := w.usageCalls("")[0]
	call := func(ids *[]string) {
		for _, gateway := range w.Gateways {
			*ids = append(*ids, allowed.send(t, gateway).Header.Get("X-Request-Id"))
		}
	}
	rig.Eventually(t, "all that was counted is recorded", func() error { return w.usageLost(t, 0) })
	for _, n := range w.KeyManagers {
		n.Kill()
	}
	var unheard, back, after []string
	rig.Eventually(t, "every Envoy counts that nobody listens", func() error {
		call(&unheard)
		for _, n := range w.Envoys {
			if envoyCounter(t, n, "cluster.accesslog.upstream_cx_connect_fail") == 0 {
				return errors.New(n.Name + " counts none")
			}
		}
		return nil
	})
	for _, n := range w.KeyManagers {
		n.Start()
	}
	for _, n := range w.KeyManagers {
		n.Ready()
	}
	rig.Eventually(t, "every Envoy tells again", func() error {
		call(&back)
		told := map[string]bool{}
		for _, k := range w.records(t, back) {
			told[k.Gateway] = true
		}
		if len(told) < len(w.Envoys) {
			return fmt.Errorf("only %v", told)
		}
		return nil
	})
	for range 20 {
		call(&after)
	}
	w.recorded(t, after)
	rig.Eventually(t, "what was counted and not recorded is what was lost", func() error {
		lost := len(unheard) + len(back) - len(w.records(t, unheard)) - len(w.records(t, back))
		return w.usageLost(t, lost)
	})
	t.Logf("%d of %d calls without key managers are recorded", len(w.records(t, unheard)), len(unheard))
	w.recordsKeepNothing(t, secrets...)
}

// usageLost holds what Envoys have counted and nobody has recorded against what
// it should be.
func (w *world) usageLost(t *testing.T, want int) error {
	t.Helper()
	counted := 0
	for _, n := range w.Envoys {
		counted += envoyCounter(t, n, "access_logs.grpc_access_log.grpc_entries_flushed")
	}
	if recorded := w.recordsKeepNothing(t); counted-recorded != want {
		return fmt.Errorf("the Envoys have counted %d, %d are recorded, %d should be lost", counted, recorded, want)
	}
	return nil
}

// envoyCounter returns a counter of an Envoy.
func envoyCounter(t *testing.T, n *rig.Node, name string) int {
	t.Helper()
	a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/stats?filter=^"+name+"$")
	if err != nil {
		t.Fatal(err)
	}
	_, value, ok := strings.Cut(a.Body, name+": ")
	count, err := strconv.Atoi(strings.TrimSpace(value))
	if !ok || err != nil {
		t.Fatalf("%s has no %s: %q", n.Name, name, a.Body)
	}
	return count
}

// recorded waits until each of some requests has a record.
func (w *world) recorded(t *testing.T, requests []string) {
	t.Helper()
	rig.Eventually(t, "every call has a record", func() error {
		if n := len(w.records(t, requests)); n < len(requests) {
			return fmt.Errorf("%d records of %d calls", n, len(requests))
		}
		return nil
	})
}
