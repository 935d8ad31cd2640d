package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// theCredential is what the questions are about; it is nowhere to be seen.
const theCredential = "tgat-the-very-secret"

// answers is a validator that says what it is told to.
type answers struct {
	verdict *keymanager.Verdict
	err     error
	asked   keymanager.Query
}

func (a *answers) Validate(_ context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	a.asked = q
	return a.verdict, a.err
}

func question(t *testing.T, change map[string]any) string {
	t.Helper()
	q := map[string]any{"credential": map[string]string{"kind": "access_token", "value": theCredential}, "api": "pets/1.0.0"}
	for k, v := range change {
		q[k] = v
	}
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const asker = "asker" // of default, with the scope of the question alone

// validationWorld has the API pets, and what it logs.
func validationWorld(t *testing.T, v *answers) (*world, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	w := newWorld(t, func(o *admin.Options) {
		o.Validator = v
		o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w.callers[asker] = admin.Caller{ConsumerKey: "ck-asker", Organization: "default", Scopes: []keymanager.Scope{keymanager.ScopeValidate}}
	w.furnish()
	return w, log
}

// active returns what is known of a live credential.
func active(w *world) *keymanager.Verdict {
	return &keymanager.Verdict{
		Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: keymanager.TokenID{1}, IssuedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
		Grant: &keymanager.Grant{
			Organization: "default", Application: keymanager.GrantApplication{ID: "a1", Name: "shop", Tier: "Gold"}, ConsumerKey: "ck",
			KeyType: keymanager.Production, Subscriber: "PRIMARY/alice", User: "PRIMARY/alice", UserID: "u1", UserStore: "PRIMARY",
			UserType: keymanager.UserTypeApplication, Scopes: []keymanager.Scope{"pets:read"},
			Subscription: &keymanager.GrantSubscription{ID: "s1", State: keymanager.Unblocked, Tier: "Gold"},
		},
	}
}

// TestValidateDecides is the table of decisions, with the codes of the gateway.
func TestValidateDecides(t *testing.T) {
	v := &answers{}
	w, log := validationWorld(t, v)
	state := func(s keymanager.SubscriptionState) func(*keymanager.Verdict) {
		return func(v *keymanager.Verdict) { v.Grant.Subscription.State = s }
	}
	reason := func(r keymanager.Reason) func(*keymanager.Verdict) {
		return func(v *keymanager.Verdict) { v.Reason = r }
	}
	networks := func(v *keymanager.Verdict) { v.Grant.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }
	for _, tt := range []struct {
		name   string
		change func(*keymanager.Verdict)
		body   map[string]any
		reason string
		code   string
		status float64
	}{
		{"live", func(*keymanager.Verdict) {}, nil, "allowed", "", 200},
		{"with a scope", func(*keymanager.Verdict) {}, map[string]any{"scopes": []string{"pets:write", "pets:read"}}, "allowed", "", 200},
		{"for ever", func(v *keymanager.Verdict) { v.ExpiresAt = time.Time{} }, nil, "allowed", "", 200},
		{"another tier is asked for", state(keymanager.TierUpdatePending), nil, "allowed", "", 200},
		{"from its network", networks, map[string]any{"address": "::ffff:10.1.2.3"}, "allowed", "", 200},
		{"sandbox of a production block", func(v *keymanager.Verdict) {
			v.Grant.KeyType, v.Grant.Subscription.State = keymanager.Sandbox, keymanager.ProdOnlyBlocked
		}, nil, "allowed", "", 200},

		{"unknown", func(v *keymanager.Verdict) { *v = keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential} }, nil, "unknown_credential", "900901", 401},
		{"of another organization", func(v *keymanager.Verdict) { v.Grant.Organization = "other" }, nil, "unknown_credential", "900901", 401},
		{"revoked", reason(keymanager.ReasonRevoked), nil, "revoked", "900901", 401},
		{"expired", reason(keymanager.ReasonExpired), nil, "expired", "900903", 401},
		{"expired this moment", func(v *keymanager.Verdict) { v.ExpiresAt = w.now }, nil, "expired", "900903", 401},
		{"application not approved", reason(keymanager.ReasonApplicationInactive), nil, "application_inactive", "900901", 401},
		{"user disabled", reason(keymanager.ReasonUserInactive), nil, "user_inactive", "900901", 401},
		{"no key type", func(v *keymanager.Verdict) { v.Grant.KeyType = "" }, nil, "no_endpoint", "900901", 401},
		{"not subscribed", func(v *keymanager.Verdict) { v.Grant.Subscription = nil }, nil, "not_subscribed", "900908", 403},
		{"blocked", state(keymanager.Blocked), nil, "subscription_blocked", "900907", 401},
		{"production blocked", state(keymanager.ProdOnlyBlocked), nil, "subscription_blocked", "900907", 401},
		{"on hold", state(keymanager.OnHold), nil, "subscription_inactive", "900909", 401},
		{"no state", state(""), nil, "subscription_inactive", "900909", 401},
		{"no such scope", func(*keymanager.Verdict) {}, map[string]any{"scopes": []string{"pets:write"}}, "insufficient_scope", "900910", 403},
		{"from nowhere", networks, nil, "network_refused", "900908", 403},
		{"from elsewhere", networks, map[string]any{"address": "192.0.2.1"}, "network_refused", "900908", 403},
		{"bound to pages", func(v *keymanager.Verdict) { v.Grant.Referers = []string{"*"} }, nil, "referer_refused", "900908", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.in(t)
			v.verdict = active(w)
			tt.change(v.verdict)
			a := w.want(200, asker, "POST", admin.ValidationPath, question(t, tt.body))
			if a.at("allowed") != (tt.reason == "allowed") || a.text("reason") != tt.reason || a.text("code") != tt.code || a.at("status") != tt.status {
				t.Errorf("answer is %s", a.body)
			}
			if strings.Contains(string(a.body), theCredential) || tt.reason == "unknown_credential" && a.at("application") != nil {
				t.Errorf("it says too much: %s", a.body)
			}
			if v.asked.Credential.Value != theCredential || v.asked.Credential.Kind != keymanager.AccessToken || v.asked.API == "" {
				t.Errorf("asked about %q %v", v.asked.API, v.asked.Credential.Kind)
			}
		})
	}
	v.verdict = active(w)
	equalJSON(t, "facts", w.want(200, asker, "POST", admin.ValidationPath, question(t, nil)).tree, `{"allowed":true,"reason":"allowed","status":200,
		"tokenId":"01000000000000000000000000000000","issuedAt":"2026-05-01T12:00:00Z","expiresAt":"2026-05-01T13:00:00Z",
		"organization":"default","application":{"id":"a1","name":"shop","tier":"Gold"},"consumerKey":"ck","keyType":"PRODUCTION",
		"subscriber":"PRIMARY/alice","user":"PRIMARY/alice","userType":"APPLICATION","scopes":["pets:read"],
		"subscription":{"id":"s1","state":"UNBLOCKED","tier":"Gold"}}`)
	id := w.want(200, system, "GET", pets, "").text("id")
	if a := w.want(200, asker, "POST", admin.ValidationPath, question(t, map[string]any{"api": id})); a.at("allowed") != true || string(v.asked.API) != id {
		t.Errorf("by id: %s", a.body)
	}
	for _, step := range [][2]string{{"BLOCKED", "700700"}, {"PUBLISHED", ""}, {"DEPRECATED", ""}, {"RETIRED", "404"}} {
		w.want(200, system, "PUT", pets+"/state", `{"state":"`+step[0]+`"}`)
		if a := w.want(200, asker, "POST", admin.ValidationPath, question(t, nil)); a.at("allowed") != (step[1] == "") || a.text("code") != step[1] {
			t.Errorf("%s: %s", step[0], a.body)
		}
	}
	if strings.Contains(log.String(), theCredential) {
		t.Errorf("the credential is in the log:\n%s", log)
	}
}

// TestValidateIsBound: who asks, about what, and what is not known.
func TestValidateIsBound(t *testing.T) {
	v := &answers{}
	w, log := validationWorld(t, v)
	v.verdict = active(w)
	id := w.want(200, system, "GET", pets, "").text("id")
	ask := func(caller string, change map[string]any) answer {
		return w.do(caller, "POST", admin.ValidationPath, question(t, change))
	}
	for name, tt := range map[string]struct {
		got    answer
		status int
	}{
		"its own":                      {ask(asker, nil), 200},
		"an administrator":             {ask(orgAdmin, nil), 200},
		"of the system":                {ask(system, nil), 200},
		"of the system, by id":         {ask(system, map[string]any{"api": id}), 200},
		"of the system, elsewhere":     {ask(system, map[string]any{"organization": "other"}), 404},
		"without the scope":            {ask(publisher, nil), 403},
		"with no scope":                {ask(nobody, nil), 403},
		"nobody":                       {ask("", nil), 401},
		"another organization, named":  {ask(stranger, map[string]any{"organization": "default"}), 404},
		"another organization, by id":  {ask(stranger, map[string]any{"api": id}), 404},
		"another organization, unsaid": {ask(stranger, nil), 404},
		"an unknown API":               {ask(asker, map[string]any{"api": "nowhere/1.0.0"}), 404},
		"an unknown id":                {ask(asker, map[string]any{"api": "nowhere"}), 404},
		"no API":                       {ask(asker, map[string]any{"api": ""}), 422},
		"no credential":                {ask(asker, map[string]any{"credential": map[string]string{"kind": "access_token"}}), 422},
		"a kind that is not known":     {ask(asker, map[string]any{"credential": map[string]string{"kind": "password", "value": theCredential}}), 422},
		"no address":                   {ask(asker, map[string]any{"address": "localhost"}), 422},
		"a name that is not known":     {ask(asker, map[string]any{"token": theCredential}), 422},
		"a credential of no type":      {ask(asker, map[string]any{"credential": theCredential}), 422},
		"not JSON":                     {w.do(asker, "POST", admin.ValidationPath, `{"credential":`+theCredential), 400},
		"too long":                     {ask(asker, map[string]any{"credential": map[string]string{"kind": "api_key", "value": strings.Repeat("x", 40<<10)}}), 413},
	} {
		if tt.got.status != tt.status {
			t.Errorf("%s: %d, want %d: %s", name, tt.got.status, tt.status, tt.got.body)
		}
		if strings.Contains(string(tt.got.body), theCredential) {
			t.Errorf("%s repeats the credential: %s", name, tt.got.body)
		}
	}
	for name, set := range map[string]func(){
		"unavailable": func() { v.verdict, v.err = nil, keymanager.Errorf(keymanager.KindUnavailable, "at 10.0.0.1") },
		"broken":      func() { v.verdict, v.err = nil, errors.New("at 10.0.0.1") },
		"not found":   func() { v.verdict, v.err = nil, keymanager.Errorf(keymanager.KindNotFound, "no row") },
		"nothing":     func() { v.verdict, v.err = nil, nil },
		"undecided":   func() { v.verdict, v.err = &keymanager.Verdict{}, nil },
		"the future":  func() { v.verdict, v.err = active(w), nil; v.verdict.Reason = 99 },
		"no facts":    func() { v.verdict, v.err = &keymanager.Verdict{Reason: keymanager.ReasonActive}, nil },
	} {
		set()
		a := ask(asker, nil)
		if a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "10.0.0.1") {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.body)
		}
	}
	if strings.Contains(log.String(), theCredential) {
		t.Errorf("the credential is in the log:\n%s", log)
	}
	without := newWorld(t)
	without.furnish()
	without.want(503, system, "POST", admin.ValidationPath, question(t, nil))
}
