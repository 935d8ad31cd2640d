//go:build !short

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// shopItems is the path of fleetWorld that the application may call.
const shopItems = "/shop/1.0.0/items"

// forToken is the form that asks for an access token.
var forToken = url.Values{"grant_type": {"client_credentials"}}

// fleetWorld is two APIs, and an application with a subscription to the first.
const fleetWorld = `
{kind: User, organization: default, name: alice, spec: {}}
---
{kind: API, organization: default, name: shop, spec: {version: 1.0.0, context: /shop, state: PUBLISHED, production: [PRODUCTION_URL],
  tiers: [Gold], resources: [{method: GET, path: /items}, {method: GET, path: /admin, scopes: ["shop:admin"]}, {method: POST, path: /items, scopes: ["shop:write"]}]}}
---
{kind: API, organization: default, name: bank, spec: {version: 1.0.0, context: /bank, state: PUBLISHED, production: [PRODUCTION_URL],
  tiers: [Gold], resources: [{method: GET, path: /items}]}}
---
{kind: Application, organization: default, name: buyer, spec: {owner: alice}}
---
{kind: Key, organization: default, name: buyer/PRODUCTION, spec: {}}
---
{kind: Subscription, organization: default, name: buyer-shop, spec: {application: buyer, api: shop/1.0.0, tier: Gold}}
`

// oneAPI is the document of an API with one resource, GET /NAME/1.0.0/items.
func oneAPI(name, state, production string) string {
	return fmt.Sprintf("---\n{kind: API, organization: default, name: %s, spec: {version: 1.0.0, context: /%[1]s, state: %s, production: [http://%s], tiers: [Gold], resources: [{method: GET, path: /items}]}}\n",
		name, state, production)
}

// subscribed is the document of buyer's subscription to an API.
func subscribed(api, state string) string {
	return fmt.Sprintf("---\n{kind: Subscription, organization: default, name: buyer-%s, spec: {application: buyer, api: %[1]s/1.0.0, tier: Gold, state: %s}}\n", api, state)
}

// world is a fleet with an application that calls through it.
type world struct {
	*rig.Fleet
	admin  *rig.Admin
	back   *counted
	client rig.Client
	good   string // a token of the application
	dead   string // a revoked one
	lines  int    // that a process may log of one cause in ten seconds
}

// fewLines is how many lines with one message a process may log in ten seconds:
// one for each cause, which is the message, what it is about (a stream, one of
// two key managers) and the error.
const fewLines = 10

func newWorld(t *testing.T, settings map[string][]string) *world {
	t.Helper()
	return settle(t, rig.NewFleet(t, settings))
}

// settle makes the world of a fleet.
func settle(t *testing.T, fleet *rig.Fleet) *world {
	t.Helper()
	w := &world{Fleet: fleet, lines: fewLines}
	t.Cleanup(func() { // while the processes still run
		w.KeepsSecrets(t)
		w.LogsLittle(t, w.lines)
	})
	w.back = backend(t, w.Production)
	w.admin = w.Fleet.Admin(t)
	w.client = w.admin.Apply(t, strings.ReplaceAll(fleetWorld, "PRODUCTION_URL", "http://"+w.Production))["buyer/PRODUCTION"]
	w.good, w.dead = w.Issue(t, w.client, "shop:write"), w.Issue(t, w.client, "shop:write")
	w.everywhere(t, shopItems, w.dead, 200, "")
	w.revoke(t, w.KeyManager, w.dead)
	w.everywhere(t, shopItems, w.dead, 401, "900901")
	return w
}

func (w *world) revoke(t *testing.T, keyManager, token string) {
	t.Helper()
	want(t, "revoke", w.client.Post(t, "http://"+keyManager+"/oauth2/revoke", url.Values{"token": {token}}), 200, "")
}

// askToken asks the first key manager for a token.
func (w *world) askToken(t *testing.T) rig.Answer {
	t.Helper()
	return w.client.Post(t, "http://"+w.KeyManager+"/oauth2/token", forToken)
}

// noToken is nil if the key manager has no token to give, and says when to ask
// again.
func noToken(w *world, t *testing.T) error {
	if a := w.askToken(t); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		return fmt.Errorf("a token is answered %d %s", a.Status, a.Body)
	}
	return nil
}

// call calls a path at a gateway with a token.
func call(gateway, path, token string) (rig.Answer, error) {
	return rig.Do(http.MethodGet, "http://"+gateway+path, "Authorization", "Bearer "+token)
}

// notReady waits until a node says that it is not ready, and why.
func notReady(t *testing.T, n *rig.Node, why string) {
	t.Helper()
	rig.Eventually(t, n.Name+" is not ready", func() error {
		a, err := rig.Do(http.MethodGet, "http://"+n.Ops+"/readyz")
		if err == nil && (a.Status != http.StatusServiceUnavailable || !strings.Contains(a.Body, why)) {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
}

// everywhere waits until every gateway answers so.
func (w *world) everywhere(t *testing.T, path, token string, status int, code string) {
	t.Helper()
	w.at(t, w.Gateways, path, token, status, code)
}

// at waits until some gateways answer so.
func (w *world) at(t *testing.T, gateways []string, path, token string, status int, code string) {
	t.Helper()
	for _, gateway := range gateways {
		rig.Eventually(t, fmt.Sprintf("the gateway at %s answers %d %s", gateway, status, code), func() error {
			a, err := call(gateway, path, token)
			if err == nil && (a.Status != status || a.Code() != code) {
				err = fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return err
		})
	}
}

// shots are calls with known answers, at every gateway: allowed ones, and each
// kind that never may be.
func (w *world) shots() []rig.Shot {
	var out []rig.Shot
	for _, gateway := range w.Gateways {
		out = append(out,
			rig.Shot{Name: "good", Gateway: gateway, Path: shopItems, Header: rig.Bearer(w.good), Status: 200},
			rig.Shot{Name: "revoked", Gateway: gateway, Path: shopItems, Header: rig.Bearer(w.dead), Status: 401, Code: "900901"},
			rig.Shot{Name: "forged", Gateway: gateway, Path: shopItems, Header: rig.Bearer("tgat_forged"), Status: 401, Code: "900901"},
			rig.Shot{Name: "no scope", Gateway: gateway, Path: "/shop/1.0.0/admin", Header: rig.Bearer(w.good), Status: 403, Code: "900910"},
			rig.Shot{Name: "not subscribed", Gateway: gateway, Path: "/bank/1.0.0/items", Header: rig.Bearer(w.good), Status: 403, Code: "900908"},
		)
	}
	return out
}

// hot picks the calls that a gateway decides from what it knows, without
// anybody's help: a refusal for want of a subscription is soon asked again.
func hot(s *rig.Shot) bool { return s.Name != "not subscribed" }

// What is changed at one key manager is felt at every gateway.
func TestFleetChanges(t *testing.T) {
	w := newWorld(t, nil)
	tok := w.Issue(t, w.client)
	w.everywhere(t, shopItems, tok, 200, "")

	w.admin.Apply(t, subscribed("shop", "BLOCKED"))
	w.everywhere(t, shopItems, tok, 401, "900907")
	w.admin.Apply(t, subscribed("shop", "UNBLOCKED"))
	w.everywhere(t, shopItems, tok, 200, "")

	w.admin.Apply(t, oneAPI("fresh", "PUBLISHED", w.Production)+subscribed("fresh", "UNBLOCKED"))
	w.everywhere(t, "/fresh/1.0.0/items", tok, 200, "")
	w.admin.Apply(t, oneAPI("fresh", "CREATED", w.Production))
	w.everywhere(t, "/fresh/1.0.0/items", tok, 404, "404")

	w.revoke(t, w.KeyManager, tok)
	w.everywhere(t, shopItems, tok, 401, "900901")
	w.everywhere(t, shopItems, w.good, 200, "")
}

// Each process of a fleet dies and freezes under load. Nobody is let through or
// turned away who should not be; a call may be undecided only where the
// process that is gone is the gateway's own; what is issued and revoked
// meanwhile holds at all others; and everything heals by itself.
func TestFaultFleetProcesses(t *testing.T) {
	w := newWorld(t, nil)
	load := rig.StartLoad(t, 100, w.shots())
	load.Flows(5, nil)
	for _, n := range w.Nodes() {
		for _, fault := range []struct {
			name       string
			hurt, heal func()
		}{
			{"killed", func() { n.Kill() }, func() { n.Start() }},
			{"stopped", n.Freeze, n.Thaw},
		} {
			t.Run(n.Name+" "+fault.name, func(t *testing.T) {
				from := time.Now()
				others := w.untouched(n)
				fault.hurt()
				load.Flows(10, rig.At(others...))
				revoked := w.issueAndRevoke(t, n, others)
				fault.heal()
				n.Ready()
				load.Flows(10, nil)
				w.everywhere(t, shopItems, revoked, 401, "900901")
				right, undecided := load.NoneWrong(from)
				load.AllRight(from, rig.At(others...))
				t.Logf("%d right, %d undecided: %s", right, undecided, load.Summary(from))
			})
		}
	}
	load.End()
}

// issueAndRevoke gets a token from a key manager that is well, sees that the
// gateways take it, revokes it, and sees that they do not.
func (w *world) issueAndRevoke(t *testing.T, ill *rig.Node, gateways []string) string {
	t.Helper()
	keyManager := w.KeyManager
	if ill == w.KeyManagers[0] {
		keyManager = w.Web[1]
	}
	tok := w.IssueAt(t, keyManager, w.client)
	w.at(t, gateways, shopItems, tok, 200, "")
	w.revoke(t, keyManager, tok)
	w.at(t, gateways, shopItems, tok, 401, "900901")
	return tok
}

// untouched are the gateways that a fault of a process may not be felt at: all
// but its own, and all if every gateway can do without it.
func (w *world) untouched(n *rig.Node) []string {
	var out []string
	for i, gateway := range w.Gateways {
		if n != w.Authz[i] && n != w.Envoys[i] {
			out = append(out, gateway)
		}
	}
	return out
}

// The stores of a fleet die and freeze under load. What the gateways know they
// go on to decide, what they do not know they leave undecided, and nothing that
// was answered is lost.
func TestFaultFleetStores(t *testing.T) {
	w := newWorld(t, nil)
	load := rig.StartLoad(t, 100, w.shots())
	load.Flows(5, nil)
	leaks := w.leaks(t)
	readOnly := func(is string) {
		w.Postgres.Exec("ALTER SYSTEM SET default_transaction_read_only = " + is)
		w.Postgres.Exec("SELECT pg_reload_conf()")
	}
	for _, fault := range []struct {
		name       string
		reads      bool // from the database
		writes     bool // without them no token is issued
		hurt, heal func()
	}{
		{"Redis killed", true, true, w.Redis.Kill, func() { w.Redis.Restart() }},
		{"Redis stopped", true, true, w.Redis.Stop, w.Redis.Cont},
		{"PostgreSQL killed", false, false, w.Postgres.Kill, w.Postgres.Start},
		{"PostgreSQL stopped", false, false, w.Postgres.Stop, w.Postgres.Continue},
		{"F19 PostgreSQL read-only", true, false, func() { readOnly("on") }, func() { readOnly("off") }},
		{"PostgreSQL killed, and a key manager restarted", false, false, func() {
			w.Postgres.Kill()
			w.KeyManagers[1].End()
			w.KeyManagers[1].Start()
			notReady(t, w.KeyManagers[1], "keymanager: ")
		}, func() {
			w.Postgres.Start()
			w.KeyManagers[1].Ready()
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			from := time.Now()
			cold := w.Issue(t, w.client) // no gateway has seen it
			fault.hurt()
			load.Flows(10, hot)
			if fault.writes {
				w.issueAndRevoke(t, nil, w.Gateways)
			} else {
				rig.Eventually(t, "no token is issued", func() error { return noToken(w, t) })
			}
			if fault.reads {
				w.everywhere(t, shopItems, cold, 200, "")
			} else {
				w.at(t, w.Gateways[:1], shopItems, cold, 503, "900900")
			}
			fault.heal()
			w.everywhere(t, shopItems, cold, 200, "")
			w.issueAndRevoke(t, nil, w.Gateways)
			load.Flows(10, nil)
			load.NoneWrong(from)
			load.AllRight(from, hot)
			t.Log(load.Summary(from))
		})
	}
	leaks()
	load.End()
	if advice := "default_transaction_read_only must be off"; !strings.Contains(w.AllLogs(), advice) {
		t.Errorf("no log says what to do about a database that is read-only (%q)", advice)
	}
}
