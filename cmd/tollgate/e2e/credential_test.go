//go:build !short

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
	"tollgate/envoy/envoytest"
)

// waysToSend: RS7, the scheme in any case; and one connection after the other.
func waysToSend(t *testing.T, pl *place) {
	live := pl.token(t, "buyer")
	for name, line := range map[string]string{
		"plain":             bearer(live),
		"lower case":        "authorization: bearer " + live,
		"upper case":        "AUTHORIZATION: BEARER " + live,
		"a blank at an end": bearer(live) + " ",
		"an empty second":   bearer(live) + "\r\nAuthorization:", // Envoy drops it
		"a folded line":     "Authorization: Bearer\r\n " + live, // one blank for every reader
	} {
		seen := pl.allowed(t, name, func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", line) })
		if seen.Get("authorization") != nil {
			t.Errorf("%s: the back end got the token", name)
		}
	}
	pl.allowed(t, "HTTP/2", func() envoytest.Reply {
		return envoytest.DialH2(t, pl.Gateway).Get("/shop/1.0.0/items", "localhost", "authorization", "Bearer "+live)
	})
	pl.forget()
	want := invalid
	h2 := envoytest.DialH2(t, pl.Gateway)
	want.check(t, "two over HTTP/2", h2.Get("/shop/1.0.0/items", "localhost", "authorization", "Bearer "+live, "authorization", "Bearer "+live))
	want.challenge = challengeKey
	want.check(t, "two keys over HTTP/2", h2.Get("/shop/1.0.0/items", "localhost", "apikey", "a", "apikey", "b"))
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}
}

// apiKeys: RS5, RS19: where an API takes them, and one credential at a time.
func apiKeys(t *testing.T, pl *place) {
	key, live := pl.apiKey(t, "buyer", nil).Key, pl.token(t, "buyer")
	seen := pl.allowed(t, "in a header", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", "apikey: "+key) })
	if seen.Get("apikey") != nil || seen.Get("x-tollgate-application")[0] != "buyer" {
		t.Errorf("the back end got %v", seen.Headers)
	}
	seen = pl.allowed(t, "in the query", func() envoytest.Reply { return pl.get(t, "/stock/1.0.0/items?a=1&apikey="+key+"&b=2") })
	if seen.Path != "/items?a=1&b=2" {
		t.Errorf("the back end got %s", seen.Path)
	}
	pl.allowed(t, "in a header where the query would do too", func() envoytest.Reply { return pl.get(t, "/stock/1.0.0/items", "apikey: "+key) })
	// An empty value is none, and a header of another scheme neither.
	pl.allowed(t, "beside Basic", func() envoytest.Reply {
		return pl.get(t, "/shop/1.0.0/items", "apikey: "+key, "Authorization: Basic YTpi")
	})

	pl.forget()
	several := refusal{401, "900901", challengeKey}
	for name, call := range map[string]envoytest.Reply{
		"RS5 token and query": pl.get(t, "/stock/1.0.0/items?apikey="+key, bearer(live)),
		"RS5 key and query":   pl.get(t, "/stock/1.0.0/items?apikey="+key, "apikey: "+key),
		"RS5 query twice":     pl.get(t, "/stock/1.0.0/items?apikey="+key+"&apikey="+key),
		"RS5 an empty second": pl.get(t, "/stock/1.0.0/items?apikey="+key+"&apikey="),
		"RS5 a good and none": pl.get(t, "/stock/1.0.0/items?apikey="+key+"&apikey"),
		"forged":              pl.get(t, "/stock/1.0.0/items?apikey="+key[:30]+flip(key[30])+key[31:]),
		"a token":             pl.get(t, "/stock/1.0.0/items?apikey="+live),
		"escaped":             pl.get(t, "/stock/1.0.0/items?apikey=%74"+key[1:]),
	} {
		several.check(t, name, call)
	}
	missing.check(t, "another spelling of the name", pl.get(t, "/stock/1.0.0/items?api%6Bey="+key))
	missing.check(t, "another case of the name", pl.get(t, "/stock/1.0.0/items?ApiKey="+key))
	noScope := pl.get(t, "/stock/1.0.0/admin", "apikey: "+key)
	insufficientKey := refusal{403, "900910", `Bearer realm="tollgate", ApiKey realm="tollgate", error="insufficient_scope", ` +
		`error_description="The access token does not allow you to access the requested resource", scope="stock:admin"`}
	insufficientKey.check(t, "a key has no scopes", noScope)

	// RS19: the application's rights, not the key's.
	unsubscribed := pl.apiKey(t, "brief", nil).Key
	forbidden.check(t, "RS19 not subscribed", pl.get(t, "/stock/1.0.0/items", "apikey: "+unsubscribed))
	want := blocked
	want.challenge = strings.Replace(challengeKey, "Invalid Credentials", "The requested API is temporarily blocked", 1)
	want.check(t, "RS19 blocked", pl.get(t, "/shop/1.0.0/items", "apikey: "+pl.apiKey(t, "blocked", nil).Key))
	notFound.check(t, "RS19 no such API", pl.get(t, "/gone/1.0.0/items", "apikey: "+key))
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}
	sandbox := pl.apiKey(t, "buyer", map[string]any{"keyType": "SANDBOX"}).Key
	if r := pl.get(t, "/shop/1.0.0/items", "apikey: "+sandbox); r.Status != 200 || len(pl.sandbox.Seen()) != 1 || pl.reached() != 1 {
		t.Errorf("a sandbox key: %d", r.Status)
	}
}

// restrictedKeys: networks and referers, both of which must hold. Nothing that
// a client says of its address counts.
func restrictedKeys(t *testing.T, pl *place) {
	here := pl.apiKey(t, "buyer", map[string]any{"networks": []string{"127.0.0.0/8"}}).Key
	away := pl.apiKey(t, "buyer", map[string]any{"networks": []string{"192.0.2.0/24", "::1"}}).Key
	page := pl.apiKey(t, "buyer", map[string]any{"referers": []string{"https://app.example.com/*"}}).Key
	both := pl.apiKey(t, "buyer", map[string]any{"networks": []string{"127.0.0.1"}, "referers": []string{"https://app.example.com/*"}}).Key
	neither := pl.apiKey(t, "buyer", map[string]any{"networks": []string{"192.0.2.1"}, "referers": []string{"https://app.example.com/*"}}).Key
	const referer = "Referer: https://app.example.com/page"
	for name, lines := range map[string][]string{
		"from its network":           {"apikey: " + here},
		"forged address, its own":    {"apikey: " + here, "X-Forwarded-For: 192.0.2.1"},
		"from its page":              {"apikey: " + page, referer},
		"from its network and page":  {"apikey: " + both, referer},
		"a second address before it": {"apikey: " + here, "X-Envoy-External-Address: 192.0.2.1"},
	} {
		pl.allowed(t, name, func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", lines...) })
	}
	pl.forget()
	for name, lines := range map[string][]string{
		"from elsewhere":            {"apikey: " + away},
		"forged address":            {"apikey: " + away, "X-Forwarded-For: 192.0.2.1"},
		"forged address of Envoy's": {"apikey: " + away, "X-Envoy-External-Address: 192.0.2.1"},
		"forged real address":       {"apikey: " + away, "X-Real-Ip: 192.0.2.1", "Forwarded: for=192.0.2.1"},
		"no page":                   {"apikey: " + page},
		"another page":              {"apikey: " + page, "Referer: https://app.example.com.evil.example/"},
		"its page after another":    {"apikey: " + page, "Referer: https://evil.example/", referer},
		"network without page":      {"apikey: " + both},
		"page without network":      {"apikey: " + neither, referer},
	} {
		forbidden.check(t, name, pl.get(t, "/shop/1.0.0/items", lines...))
	}
	if pl.reached() != 0 {
		t.Error("a back end was reached")
	}
}

// stripped: RS4, no credential of ours reaches a back end, from wherever and
// whether or not it was asked for; what only looks like one stays.
func stripped(t *testing.T, pl *place) {
	live, key := pl.token(t, "buyer"), pl.apiKey(t, "buyer", nil).Key
	for _, tt := range []struct {
		name, target, path string
		lines              []string
	}{
		{"an open resource", "/shop/1.0.0/open?x=1", "/open?x=1", []string{bearer(live), "apikey: " + key}},
		{"in the query", "/shop/1.0.0/items?access_token=" + live + "&x=1", "/items?x=1", []string{bearer(live)}},
		{"key in the query", "/shop/1.0.0/items?x=1&apikey=" + key, "/items?x=1", []string{bearer(live)}},
		{"in the query of an open resource", "/shop/1.0.0/open?apikey=" + key + "&access_token=" + live, "/open", nil},
		{"a back end's own", "/shop/1.0.0/items?z=1&apikey=mine&access_token=yours&a=2", "/items?z=1&apikey=mine&access_token=yours&a=2", []string{bearer(live)}},
		{"another scheme, at an open resource", "/shop/1.0.0/open", "/open", []string{"Authorization: Basic YTpi", "apikey: whatever"}},
	} {
		seen := pl.allowed(t, tt.name, func() envoytest.Reply { return pl.get(t, tt.target, tt.lines...) })
		if seen.Path != tt.path {
			t.Errorf("%s: the back end got %s, want %s", tt.name, seen.Path, tt.path)
		}
		for _, f := range seen.Headers {
			if f.Name == "authorization" || f.Name == "apikey" || strings.Contains(f.Value, live) || strings.Contains(f.Value, key) {
				t.Errorf("%s: the back end got %s: %s", tt.name, f.Name, f.Value)
			}
		}
	}
}

// hostile: RS8, whatever is sent as a credential is refused, without a panic, a
// 5xx, or a question to the key manager.
func hostile(t *testing.T, pl *place) {
	live, key := pl.token(t, "buyer"), pl.apiKey(t, "buyer", nil).Key
	pl.allowed(t, "to begin with", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(live)) })
	pl.forget()
	before := metric(t, pl.Rig, "tollgate_authz_keymanager_calls_total")
	random := newRandom(t)
	values := []string{
		strings.Repeat("A", 20<<10), strings.Repeat("A", 64<<10), strings.Repeat("a.b", 1<<20), "\x80\xff\xfe", "ü", "\x01", "\x7f", "a\x00b",
		"tgat_", "tgak_", "tgcs_", "tgat_" + strings.Repeat("A", 65), live + live, live[:69] + "=", strings.ToUpper(live), strings.ToLower(live),
		"../../etc/passwd", "' OR 1=1 --", "${jndi:ldap://x}", "%00", "{}", `"`, "\\",
		strings.Replace(live, "tgat_", "tgak_", 1), strings.Replace(key, "tgak_", "tgat_", 1),
	}
	for range 150 {
		forged := []byte(live)
		forged[5+random.IntN(len(forged)-5)] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
		if string(forged) != live {
			values = append(values, string(forged))
		}
		noise := make([]byte, 1+random.IntN(100))
		for i := range noise {
			noise[i] = byte(1 + random.IntN(255))
		}
		values = append(values, strings.NewReplacer("\r", "", "\n", "").Replace(string(noise)))
	}
	for _, v := range values {
		shown := v[:min(len(v), 80)]
		for _, line := range []string{bearer(v), "Authorization: " + v, "apikey: " + v} {
			r := pl.get(t, "/shop/1.0.0/items", line)
			switch {
			case r.Status == 0 && len(v) >= 64<<10: // cut off
			case r.Status == 401 || r.Status == 400 || r.Status == 431:
			default:
				t.Errorf("%.20s %q: %d %s%s", line, shown, r.Status, r.Body, r.Reset)
			}
			if len(v) > 8 && strings.Contains(r.Body, v) {
				t.Errorf("%q is repeated", shown)
			}
		}
	}
	h2 := envoytest.DialH2(t, pl.Gateway)
	for _, v := range []string{"\x80\xff", "\x00", "ü", strings.Repeat("A", 20<<10)} {
		if r := h2.Get("/shop/1.0.0/items", "localhost", "authorization", "Bearer "+v); r.Status >= 500 || r.Status == 200 {
			t.Errorf("HTTP/2 %q: %d", v[:min(len(v), 80)], r.Status)
		}
		if h2 = envoytest.DialH2(t, pl.Gateway); pl.reached() != 0 {
			t.Fatalf("%q reached a back end", v[:min(len(v), 80)])
		}
	}
	if asked := metric(t, pl.Rig, "tollgate_authz_keymanager_calls_total") - before; asked != 0 {
		t.Errorf("the key manager was asked %v times", asked)
	}
	pl.allowed(t, "and after it", func() envoytest.Reply { return pl.get(t, "/shop/1.0.0/items", bearer(live)) })
	if n := metric(t, pl.Rig, `reason="panicked"`); n != 0 {
		t.Errorf("%v panics", n)
	}
}

// metric sums the samples whose line contains a text.
func metric(t *testing.T, r *rig.Rig, part string) float64 {
	t.Helper()
	a, err := rig.Do("GET", "http://"+r.Ops+"/metrics")
	if err != nil || a.Status != 200 {
		t.Fatalf("%d %v", a.Status, err)
	}
	var sum float64
	found := false
	for line := range strings.Lines(a.Body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || !ok || !strings.Contains(name, part) {
			continue
		}
		var v float64
		if _, err := fmt.Sscanf(value, "%g", &v); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		found, sum = true, sum+v
	}
	if !found {
		t.Fatalf("no metric has %s", part)
	}
	return sum
}
