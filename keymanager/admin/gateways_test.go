package admin_test

import (
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

type states []keymanager.GatewayState

func (s states) States() []keymanager.GatewayState { return s }

func TestGateways(t *testing.T) {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	pos := keymanager.Position{Epoch: keymanager.Epoch{1}, Seq: 7}
	bad := keymanager.RejectedResource{Node: "n1", Type: "type.googleapis.com/x", Name: "pets", API: "id-1", Reason: "no such cluster", Since: at}
	w := newWorld(t, func(o *admin.Options) {
		o.Gateways = states{
			{Kind: keymanager.GatewayAuthz, ID: "a", Phase: keymanager.PhaseLive, Confirmed: pos, Lag: 40 * time.Millisecond, At: at},
			{Kind: keymanager.GatewayXDS, ID: "x", Group: "eu", Phase: keymanager.PhaseSyncing, At: at, Rejected: []keymanager.RejectedResource{bad},
				Nodes: []keymanager.NodeState{{ID: "n1", Version: "1.40.0", Connected: true, Acknowledged: pos, Rejected: []keymanager.RejectedResource{bad}}}},
		}
	})
	a := w.want(200, system, "GET", "/gateways", "")
	const rejected = `[{"node":"n1","type":"type.googleapis.com/x","name":"pets","api":"id-1","reason":"no such cluster","since":"2026-05-01T00:00:00Z"}]`
	equalJSON(t, "gateways", a.at("items"), `[
		{"kind":"authz","id":"a","state":"LIVE","lag":"40ms","confirmed":"`+pos.String()+`","at":"2026-05-01T00:00:00Z"},
		{"kind":"xds","id":"x","group":"eu","state":"SYNCING","lag":"0s","confirmed":"`+keymanager.Position{}.String()+`","at":"2026-05-01T00:00:00Z","rejected":`+rejected+`,
			"nodes":[{"id":"n1","version":"1.40.0","connected":true,"acknowledged":"`+pos.String()+`","rejected":`+rejected+`}]}]`)
	if page := w.want(200, system, "GET", "/gateways?offset=1&limit=1", ""); page.text("items/0/kind") != "xds" || page.at("total") != 2.0 {
		t.Errorf("second page: %s", page.body)
	}
	if none := newWorld(t).want(200, system, "GET", "/gateways", ""); none.at("total") != 0.0 || none.at("items") == nil {
		t.Errorf("none: %s", none.body)
	}
}

// token makes a token of the application shop.
func (w *world) token() *keymanager.Token {
	w.t.Helper()
	key := w.want(201, system, "POST", shop+"/keys", `{"keyType":"PRODUCTION"}`).text("consumerKey")
	app, err := w.store.ApplicationByName(w.t.Context(), "default", "shop")
	if err != nil {
		w.t.Fatal(err)
	}
	tok := &keymanager.Token{
		ID: keymanager.TokenID{1, 2}, Digest: w.peppers.Digest("x"), ConsumerKey: keymanager.ConsumerKey(key),
		ApplicationID: app.ID, KeyType: keymanager.Production, User: app.Owner, UserType: keymanager.UserTypeApplication,
		IssuedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
	if err := w.store.CreateToken(w.t.Context(), tok); err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func TestRevokeToken(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	tok := w.token()
	before, err := w.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.want(204, system, "DELETE", "/tokens/"+tok.ID.String(), "")
	w.want(204, system, "DELETE", "/tokens/"+tok.ID.String(), "") // it is revoked
	events, err := w.store.Events(t.Context(), before.Seq, 10)
	if err != nil || len(events) != 1 || events[0].Dead == nil || events[0].Dead.TokenID != tok.ID {
		t.Errorf("events %v, %v", events, err)
	}
	if trail := w.want(200, system, "GET", "/organizations/system/audit?limit=1", ""); trail.text("items/0/action") != "revoke" || trail.text("items/0/name") != tok.ID.String() {
		t.Errorf("trail: %s", trail.body)
	}
}
