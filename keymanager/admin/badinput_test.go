package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
)

// Bad input: the answer names the field, and nothing has changed.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	key := w.want(201, system, "POST", shop+"/keys", `{"keyType":"PRODUCTION"}`).text("consumerKey")
	before := w.dump()
	api := inDefault + "/apis/new/1.0.0"
	with := func(field, value string) string {
		rest := `"resources":[{"method":"GET","path":"/"}],`
		if field == "resources" {
			rest = ""
		}
		return fmt.Sprintf(`{"context":"/new","production":["http://a:1"],%s%q:%s}`, rest, field, value)
	}
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		pointer                  string
	}{
		{"no body", "PUT", api, ``, 400, ""},
		{"not JSON", "PUT", api, `{"context":`, 400, ""},
		{"not JSON either", "PUT", api, `context: /new`, 400, ""},
		{"two values", "PUT", api, `{} {}`, 400, ""},
		{"not UTF-8", "PUT", api, "{\"context\":\"/\xff\"}", 400, ""},
		{"too deep", "PUT", api, `{"context":` + deep + `}`, 400, ""},
		{"a list", "PUT", api, `[]`, 422, ""},
		{"null", "PUT", api, `null`, 422, ""},
		{"unknown name", "PUT", api, with("nonsense", "1"), 422, "/nonsense"},
		{"unknown name that needs an escape", "PUT", api, with("a/b~c", "1"), 422, "/a~1b~0c"},
		{"name in another case", "PUT", api, with("Context", `"/x"`), 422, "/Context"},
		{"name twice", "PUT", api, `{"context":"/new","context":"/new"}`, 422, "/context"},
		{"id", "PUT", api, with("id", `"x"`), 422, "/id"},
		{"wrong type", "PUT", api, with("hosts", `"h"`), 422, "/hosts"},
		{"wrong type of an element", "PUT", api, with("hosts", `[1]`), 422, "/hosts/0"},
		{"null in a list", "PUT", api, with("hosts", `[null]`), 422, "/hosts/0"},
		{"other version", "PUT", api, with("version", `"2"`), 422, "/version"},
		{"bad version", "PUT", inDefault + "/apis/new/..", `{"context":"/new"}`, 0, ""},
		{"no context", "PUT", api, `{}`, 422, "/context"},
		{"root context", "PUT", api, `{"context":"/"}`, 422, "/context"},
		{"our own context", "PUT", api, `{"context":"/oauth2/x"}`, 422, "/context"},
		{"dots in the context", "PUT", api, `{"context":"/a/../b"}`, 422, "/context"},
		{"duration without unit", "PUT", api, with("timeout", `"30"`), 422, "/timeout"},
		{"duration as a number", "PUT", api, with("timeout", `30`), 422, "/timeout"},
		{"negative duration", "PUT", api, with("timeout", `"-1s"`), 422, "/timeout"},
		{"endpoint", "PUT", api, with("sandbox", `["ftp://x"]`), 422, "/sandbox/0"},
		{"two base paths", "PUT", api, with("sandbox", `["http://a:1/base"]`), 422, "/sandbox/0"},
		{"security scheme", "PUT", api, with("securitySchemes", `["basic"]`), 422, "/securitySchemes/0"},
		{"protocol", "PUT", api, with("protocol", `"http3"`), 422, "/protocol"},
		{"state", "PUT", api, with("state", `"LIVE"`), 422, "/state"},
		{"published without resources", "PUT", api, `{"context":"/new","production":["http://a:1"],"state":"PUBLISHED"}`, 422, "/resources"},
		{"tier that is not there", "PUT", api, with("tiers", `["Gold","Platinum"]`), 422, "/tiers/1"},
		{"tier of a resource", "PUT", api, with("resources", `[{"method":"GET","path":"/","tier":"Platinum"}]`), 422, "/resources/0/tier"},
		{"resource", "PUT", api, with("resources", `[{"method":"get","path":"/"}]`), 422, "/resources/0/method"},
		{"resource's unknown name", "PUT", api, with("resources", `[{"method":"GET","path":"/","scope":"x"}]`), 422, "/resources/0/scope"},
		{"scope", "PUT", api, with("resources", `[{"method":"GET","path":"/","scopes":["a b"]}]`), 422, "/resources/0/scopes/0"},
		{"cors", "PUT", api, with("cors", `{"allowOrigins":["*"],"allowCredentials":true}`), 422, "/cors/allowOrigins/0"},
		{"cors age", "PUT", api, with("cors", `{"allowOrigins":["*"],"maxAge":"long"}`), 422, "/cors/maxAge"},
		{"cache", "PUT", api, with("cache", `"on"`), 422, "/cache"},
		{"context in another case", "PUT", api, `{"context":"/Pets"}`, 409, ""},
		{"place that is taken", "PUT", inDefault + "/apis/new/1.0.0", `{"context":"/pets"}`, 409, ""},
		{"place that is taken elsewhere", "PUT", "/organizations/other/apis/x/1.0.0", `{"context":"/pets"}`, 409, ""},
		{"life cycle", "PUT", pets, strings.Replace(petsSpec, "PUBLISHED", "RETIRED", 1), 422, "/state"},
		{"API in use", "DELETE", pets, ``, 409, ""},

		{"organization's name", "PUT", "/organizations/Acme!", `{}`, 422, "/name"},
		{"organization in use", "DELETE", "/organizations/default", ``, 409, ""},
		{"user's name", "PUT", inDefault + "/users/PRIMARY/a%20b", `{}`, 422, "/name"},
		{"user store", "PUT", inDefault + "/users/primary/bob", `{}`, 422, "/userStore"},
		{"user's mail", "PUT", inDefault + "/users/PRIMARY/bob", `{"email":"bob"}`, 422, "/email"},
		{"user's status", "PUT", inDefault + "/users/PRIMARY/bob", `{"status":"ASLEEP"}`, 422, "/status"},
		{"user in use", "DELETE", inDefault + "/users/PRIMARY/alice", ``, 409, ""},
		{"tier's unit", "PUT", inDefault + "/tiers/T", `{"requests":1,"unit":"week"}`, 422, "/unit"},
		{"tier's requests", "PUT", inDefault + "/tiers/T", `{"requests":-1}`, 422, "/requests"},
		{"tier's requests, not whole", "PUT", inDefault + "/tiers/T", `{"requests":1.5}`, 422, "/requests"},
		{"tier's requests, too many", "PUT", inDefault + "/tiers/T", `{"requests":99999999999999999999}`, 422, "/requests"},
		{"tier in use", "DELETE", inDefault + "/tiers/Gold", ``, 409, ""},

		{"no owner", "PUT", inDefault + "/applications/a", `{}`, 422, "/owner"},
		{"owner that is not there", "PUT", inDefault + "/applications/a", `{"owner":"bob"}`, 422, "/owner"},
		{"owner of another store", "PUT", inDefault + "/applications/a", `{"owner":"FOO/alice"}`, 422, "/owner"},
		{"application's name", "PUT", inDefault + "/applications/%20a", `{"owner":"alice"}`, 422, "/name"},
		{"slash in a name", "PUT", inDefault + "/applications/a%2Fb", `{"owner":"alice"}`, 422, "/name"},
		{"application's tier", "PUT", inDefault + "/applications/a", `{"owner":"alice","tier":"Platinum"}`, 422, "/tier"},
		{"tier of nobody", "PUT", inDefault + "/applications/a", `{"owner":"alice","tier":"Unauthenticated"}`, 422, "/tier"},
		{"attributes", "PUT", inDefault + "/applications/a", `{"owner":"alice","attributes":{"a":1}}`, 422, "/attributes/a"},
		{"token type", "PUT", inDefault + "/applications/a", `{"owner":"alice","tokenType":"JWT"}`, 422, "/tokenType"},

		{"key type", "POST", shop + "/keys", `{"keyType":"TEST"}`, 422, "/keyType"},
		{"no key type", "POST", shop + "/keys", `{}`, 422, "/keyType"},
		{"second key", "POST", shop + "/keys", `{"keyType":"PRODUCTION"}`, 409, "/keyType"},
		{"token lifetime", "POST", shop + "/keys", `{"keyType":"SANDBOX","tokenLifetime":"1y"}`, 422, "/tokenLifetime"},
		{"long token lifetime", "PUT", shop + "/keys/" + key, `{"tokenLifetime":"1000h"}`, 422, "/tokenLifetime"},
		{"grant", "PUT", shop + "/keys/" + key, `{"grantTypes":["password"]}`, 422, "/grantTypes/0"},
		{"no such application", "POST", inDefault + "/applications/none/keys", `{"keyType":"SANDBOX"}`, 404, ""},
		{"secret's expiry", "POST", shop + "/keys/" + key + "/secrets", `{"expiresAt":"tomorrow"}`, 422, "/expiresAt"},
		{"secret born dead", "POST", shop + "/keys/" + key + "/secrets", `{"expiresAt":"2020-01-01T00:00:00Z"}`, 422, "/expiresAt"},
		{"API key's name", "POST", shop + "/api-keys", `{"keyType":"SANDBOX"}`, 422, "/name"},
		{"API key's network", "POST", shop + "/api-keys", `{"name":"k","keyType":"SANDBOX","networks":["10.0.0.1/8"]}`, 422, "/networks/0"},
		{"API key's referer", "POST", shop + "/api-keys", `{"name":"k","keyType":"SANDBOX","referers":["a b"]}`, 422, "/referers/0"},
		{"API key's id", "DELETE", shop + "/api-keys/xyz", ``, 404, ""},

		{"subscription to nothing", "PUT", inDefault + "/subscriptions/s", `{"application":"shop"}`, 422, "/api"},
		{"subscription of nothing", "PUT", inDefault + "/subscriptions/s", `{"api":"pets/1.0.0","tier":"Gold"}`, 422, "/application"},
		{"API without version", "PUT", inDefault + "/subscriptions/s", `{"application":"shop","api":"pets","tier":"Gold"}`, 422, "/api"},
		{"API of two parts, one unknown", "PUT", inDefault + "/subscriptions/s", `{"application":"shop","api":{"name":"pets","ver":"1"},"tier":"Gold"}`, 422, "/api/ver"},
		{"tier that the API has not", "PUT", inDefault + "/subscriptions/s", `{"application":"shop","api":"pets/1.0.0","tier":"Bronze"}`, 422, "/tier"},
		{"tier to be chosen", "PUT", inDefault + "/subscriptions/s", `{"application":"shop","api":"pets/1.0.0"}`, 422, "/tier"},
		{"second subscription", "PUT", inDefault + "/subscriptions/s", `{"application":"shop","api":"pets/1.0.0","tier":"Gold"}`, 409, ""},
		{"pending tier", "PUT", inDefault + "/subscriptions/shop-pets", `{"application":"shop","api":"pets/1.0.0","tier":"Gold","pendingTier":"Silver"}`, 422, "/pendingTier"},
		{"pending tier that the API has not", "PUT", inDefault + "/subscriptions/shop-pets", `{"application":"shop","api":"pets/1.0.0","tier":"Gold","state":"TIER_UPDATE_PENDING","pendingTier":"Bronze"}`, 422, "/pendingTier"},
		{"no such token", "DELETE", "/tokens/00112233445566778899aabbccddeeff", ``, 404, ""},
		{"no token id", "DELETE", "/tokens/x", ``, 404, ""},
		{"too large", "PUT", api, `{"context":"` + strings.Repeat("x", 2<<20) + `"}`, 413, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.do(system, tt.method, tt.path, tt.body)
			if tt.status != 0 && a.status != tt.status || a.status < 300 {
				t.Fatalf("%d, want %d: %s", a.status, tt.status, a.body)
			}
			if tt.status == 0 {
				return // the mux answers
			}
			refusal(t, tt.name, a)
			if tt.pointer != "" && a.text("errors/0/pointer") != tt.pointer {
				t.Errorf("pointer %q, want %q: %s", a.text("errors/0/pointer"), tt.pointer, a.body)
			}
			if len(a.body) > 4096 {
				t.Errorf("the answer has %d bytes", len(a.body))
			}
		})
	}
	if after := w.dump(); after != before {
		t.Errorf("something has changed:\n%s\n%s", before, after)
	}
}

// One thing wrong is one problem, and all of them are told.
func TestAllProblemsAtOnce(t *testing.T) {
	w := newWorld(t)
	a := w.want(422, system, "PUT", inDefault+"/apis/x/1", `{"context":"x","timeout":"y","tiers":["None"],"production":["z"],"resources":[{"method":"GET","path":"p","scopes":["tollgate:admin"]}],"nope":1}`)
	if n := len(a.at("errors").([]any)); n != 1 {
		t.Errorf("what does not fit the schema comes first, alone: %s", a.body)
	}
	a = w.want(422, system, "PUT", inDefault+"/apis/x/1", `{"context":"x","timeout":"y","tiers":["None"],"production":["z"],"resources":[{"method":"GET","path":"p","scopes":["tollgate:admin"]}]}`)
	var pointers []string
	for _, e := range a.at("errors").([]any) {
		pointers = append(pointers, e.(map[string]any)["pointer"].(string))
	}
	if got, want := strings.Join(pointers, " "), "/timeout /context /production/0 /resources/0/path /resources/0/scopes/0 /tiers/0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMediaTypes(t *testing.T) {
	w := newWorld(t)
	tier := inDefault + "/tiers/T"
	for contentType, want := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "APPLICATION/JSON": 200,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/yaml": 415, "application/vnd.x+json": 415, ";": 415,
	} {
		w.put(system, tier, `{"requests":1}`)
		w.want(want, system, "PUT", tier, `{"requests":1}`, "Content-Type", contentType)
	}
}

// outage is a store whose transactions fail.
type outage struct {
	store.Store
	err error
}

func (o outage) InTx(context.Context, func(store.Store) error) (keymanager.Position, error) {
	return keymanager.Position{}, o.err
}

func (o outage) Organization(context.Context, keymanager.OrganizationID) (*keymanager.Organization, error) {
	return nil, o.err
}

func (o outage) Tier(context.Context, keymanager.OrganizationID, keymanager.TierName) (*keymanager.Tier, error) {
	panic("tier " + o.err.Error())
}

// Nothing of what is inside is shown outside.
func TestOutage(t *testing.T) {
	for want, err := range map[int]error{
		503: &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "dial tcp 10.0.0.1", Err: errors.New("10.0.0.1")},
		500: errors.New("relation 10.0.0.1 does not exist"),
	} {
		w := newWorld(t)
		w.options.Store = outage{w.store, err}
		var newErr error
		if w.handler, newErr = admin.New(w.options); newErr != nil {
			t.Fatal(newErr)
		}
		for _, r := range []struct {
			method, path, body string
			want               int
		}{
			{"PUT", inDefault + "/tiers/T", `{}`, want},
			{"DELETE", inDefault + "/tiers/T", ``, want},
			{"POST", "/apply", `{"documents":[]}`, want},
			{"GET", inDefault + "/tiers", ``, want},
			{"GET", inDefault + "/tiers/T", ``, 500},
		} {
			a := w.want(r.want, system, r.method, r.path, r.body)
			refusal(t, r.method+" "+r.path, a)
			if strings.Contains(string(a.body), "10.0.0.1") {
				t.Errorf("%s %s: %s", r.method, r.path, a.body)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	if h, err := admin.New(admin.Options{}); err == nil || h != nil {
		t.Error("made of nothing")
	}
	if err := admin.Bootstrap(t.Context(), admin.BootstrapOptions{}); err == nil {
		t.Error("bootstrap with nothing")
	}
}
