package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// everything is a document of each kind, in an order that must not matter.
const everything = `[
	{"kind":"Subscription","name":"shop-pets","spec":{"application":"shop","api":{"name":"pets","version":"1.0.0"},"tier":"Tiny"}},
	{"kind":"Key","name":"shop/PRODUCTION","spec":{"tokenLifetime":"10m"}},
	{"kind":"Application","name":"shop","spec":{"owner":"FOO/alice","tier":"Gold"}},
	{"kind":"API","name":"pets","spec":{"version":"1.0.0","context":"/pets","production":["http://127.0.0.1:9001"],
		"resources":[{"method":"GET","path":"/","tier":"Bronze"}],"tiers":["Tiny","Gold"],"state":"PUBLISHED"}},
	{"kind":"User","name":"FOO/alice"},
	{"kind":"Tier","name":"Tiny","spec":{"requests":1}},
	{"kind":"Organization","name":"acme","spec":{"displayName":"Acme"}}
]`

func applyBody(documents, more string) string {
	return `{"organization":"acme","documents":` + documents + more + `}`
}

func TestApply(t *testing.T) {
	w := newWorld(t)
	empty := w.dump()

	dry := w.want(200, system, "POST", "/apply", applyBody(everything, `,"dryRun":true`))
	if dry.at("created") != 7.0 || dry.at("dryRun") != true || dry.at("documents/1/secret") != nil {
		t.Errorf("dry run: %s", dry.body)
	}
	if w.dump() != empty {
		t.Error("a dry run has changed something")
	}

	first := w.want(200, system, "POST", "/apply", applyBody(everything, ""))
	if first.at("created") != 7.0 || first.at("updated") != 0.0 || first.text("position") == "" {
		t.Errorf("first: %s", first.body)
	}
	for i, want := range []string{"Subscription shop-pets", "Key shop/PRODUCTION", "Application shop", "API pets/1.0.0", "User FOO/alice", "Tier Tiny", "Organization acme"} {
		at := fmt.Sprintf("documents/%d/", i)
		if got := first.text(at+"kind") + " " + first.text(at+"name"); got != want || first.at(at+"document") != float64(i) ||
			first.text(at+"action") != "created" || first.text(at+"organization") != "acme" {
			t.Errorf("document %d: %s, want %s", i, got, want)
		}
	}
	if !strings.HasPrefix(first.text("documents/1/secret/clientSecret"), "tgcs_") {
		t.Errorf("no secret: %s", first.body)
	}
	if got := w.want(200, system, "GET", "/organizations/acme/subscriptions/shop-pets", ""); got.text("spec/api") != "pets/1.0.0" || got.text("spec/state") != "UNBLOCKED" {
		t.Errorf("subscription: %s", got.body)
	}

	applied := w.dump()
	again := w.want(200, system, "POST", "/apply", applyBody(everything, ""))
	if again.at("unchanged") != 7.0 || again.at("position") != nil || strings.Contains(string(again.body), "tgcs_") {
		t.Errorf("again: %s", again.body)
	}
	if w.dump() != applied {
		t.Error("the same again has changed something")
	}
	// What is shown is a document.
	shown := w.want(200, system, "GET", "/organizations/acme/apis/pets/1.0.0", "")
	doc := fmt.Sprintf(`[{"kind":%q,"organization":%q,"name":%q,"spec":%s}]`, shown.text("kind"), shown.text("organization"), shown.text("name"), encode(t, shown.at("spec")))
	if same := w.want(200, system, "POST", "/apply", `{"documents":`+doc+`}`); same.at("unchanged") != 1.0 {
		t.Errorf("what was shown: %s", same.body)
	}

	changed := strings.NewReplacer(`"http://127.0.0.1:9001"`, `"http://127.0.0.1:9001","http://127.0.0.1:9003"`,
		`,"tier":"Bronze"`, `,"scopes":["a"]`, `"10m"`, `"20m"`, `"displayName":"Acme"`, `"displayName":"Acme Ltd"`).Replace(everything)
	updated := w.want(200, system, "POST", "/apply", applyBody(changed, ""))
	if updated.at("updated") != 3.0 || updated.at("unchanged") != 4.0 {
		t.Errorf("updated: %s", updated.body)
	}
	equalJSON(t, "changes of the API", updated.at("documents/3/changes"), `[
		{"pointer":"/spec/production/1","after":"http://127.0.0.1:9003"},
		{"pointer":"/spec/resources/0/scopes","after":["a"]},
		{"pointer":"/spec/resources/0/tier","before":"Bronze"}]`)
	equalJSON(t, "changes of the key", updated.at("documents/1/changes"), `[{"pointer":"/spec/tokenLifetime","before":"10m0s","after":"20m0s"}]`)
}

// All problems of all documents are told, in order, and nothing is applied.
func TestApplyProblems(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	before := w.dump()
	docs := []struct{ doc, want string }{
		{`{"kind":"Api","name":"x"}`, `0 /kind`},
		{`{"kind":"API","spec":{"context":"/x"}}`, `1 /name`},
		{`{"kind":"Tier","name":"Fine","spec":{"requests":1}}`, ``},
		{`{"kind":"Tier","name":"Fine","spec":{"requests":2}}`, `3 /name`},
		{`{"kind":"API","name":"a","spec":{"context":"/a","version":"1","nope":1,"hosts":[1]}}`, `4 /spec/hosts/0|4 /spec/nope`},
		{`{"kind":"API","name":"b/1","spec":{"version":"2","context":"/b"}}`, `5 /spec/version`},
		{`{"kind":"API","name":"c","spec":{"version":"1","context":"c","tiers":["Fine","None"]}}`, `6 /spec/context|6 /spec/tiers/1`},
		{`{"kind":"Application","name":"d","spec":{"owner":"nobody"}}`, `7 /spec/owner`},
		// It refers to documents that have problems of their own: no more of them.
		{`{"kind":"Subscription","name":"e","spec":{"application":"d","api":"c/1","tier":"Fine"}}`, ``},
		{`{"kind":"Subscription","name":"f","spec":{"application":"shop","api":"g/1","tier":"Gold"}}`, `9 /spec/api`},
		{`{"kind":"Key","name":"shop/TEST"}`, `10 /name`},
		{`{"kind":"Key","name":"nothing/PRODUCTION"}`, `11 /name`},
		{`{"kind":"User","name":"foo/bar"}`, `12 /name`},
		{`{"kind":"Application","name":"shop","organization":"nowhere","spec":{"owner":"alice"}}`, `13 /organization`},
		{`{"kind":"Organization","name":"Bad Name"}`, `14 /name`},
		{`{"kind":"Tier","name":"X","organization":"Bad Name","spec":{"requests":1}}`, ``},
		{`{"kind":"Organization","name":"acme","organization":"default"}`, `16 /organization`},
		{`{"kind":"Tier","name":"Y","spec":"text"}`, `17 /spec`},
		{`{"kind":"API","name":"pets/1.0.0","spec":{"context":"/pets","state":"RETIRED"}}`, `18 /spec/state`},
		{`{"kind":"Subscription","name":"shop-pets","spec":{"application":"shop","api":{"name":"pets"},"tier":"Gold"}}`, `19 /spec/api`},
	}
	var list, want []string
	for _, d := range docs {
		list = append(list, d.doc)
		if d.want != "" {
			want = append(want, strings.Split(d.want, "|")...)
		}
	}
	a := w.want(422, system, "POST", "/apply", `{"organization":"default","documents":[`+strings.Join(list, ",")+`]}`)
	var got []string
	for _, e := range a.at("errors").([]any) {
		e := e.(map[string]any)
		got = append(got, fmt.Sprintf("%v %v", e["document"], e["pointer"]))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s\n%s", g, w, a.body)
	}
	if a.text("detail") != fmt.Sprintf("nothing was applied: %d problems", len(want)) {
		t.Errorf("detail: %s", a.text("detail"))
	}
	if w.dump() != before {
		t.Error("something was applied")
	}
}

// Clashes that only the store sees are told too, and nothing is applied.
func TestApplyClashes(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	before := w.dump()
	api := func(name, context string) string {
		return fmt.Sprintf(`{"kind":"API","name":%q,"spec":{"version":"1.0.0","context":%q}}`, name, context)
	}
	a := w.want(422, system, "POST", "/apply", `{"documents":[`+strings.Join([]string{
		`{"kind":"Tier","name":"New","spec":{"requests":1}}`, api("a", "/pets"), api("b", "/fine"), api("c", "/Pets"),
		`{"kind":"Subscription","name":"two","spec":{"application":"shop","api":"pets/1.0.0","tier":"Gold"}}`}, ",")+`]}`)
	var at []string
	for _, e := range a.at("errors").([]any) {
		at = append(at, fmt.Sprint(e.(map[string]any)["document"]))
	}
	if strings.Join(at, " ") != "1 3" || !strings.Contains(string(a.body), `API \"pets\"`) {
		t.Errorf("problems: %s", a.body)
	}
	if w.dump() != before {
		t.Error("something was applied")
	}
	one := w.want(422, system, "POST", "/apply", `{"documents":[{"kind":"Subscription","name":"two","spec":{"application":"shop","api":"pets/1.0.0","tier":"Gold"}}]}`)
	if one.text("detail") != "nothing was applied: 1 problem" {
		t.Errorf("one problem: %s", one.body)
	}
}

func TestApplyRights(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	api := `{"kind":"API","name":"pets","spec":{"version":"1.0.0","context":"/pets","state":"CREATED","tiers":["Gold"]}}`
	tier := `{"kind":"Tier","name":"T","spec":{"requests":1}}`
	app := `{"kind":"Application","name":"a","spec":{"owner":"alice"}}`
	user := `{"kind":"User","name":"bob"}`
	own := `{"kind":"Organization","name":"default"}`
	org := `{"kind":"Organization","name":"acme"}`
	foreign := `{"kind":"Tier","organization":"other","name":"T","spec":{"requests":1}}`
	blocked := `{"kind":"Subscription","name":"shop-pets","spec":{"application":"shop","api":"pets/1.0.0","tier":"Gold","state":"BLOCKED"}}`
	for _, tt := range []struct {
		caller, doc, pointer string // "": it is applied
	}{
		{publisher, api, ""}, {publisher, tier, ""}, {publisher, app, "/kind"}, {publisher, user, "/kind"}, {publisher, blocked, "/kind"}, {publisher, own, "/kind"},
		{subscriber, api, "/kind"}, {subscriber, tier, "/kind"}, {subscriber, app, ""}, {subscriber, user, "/kind"}, {subscriber, blocked, "/spec/state"},
		{orgAdmin, api, ""}, {orgAdmin, app, ""}, {orgAdmin, user, ""}, {orgAdmin, own, ""}, {orgAdmin, org, "/organization"}, {orgAdmin, foreign, "/organization"}, {orgAdmin, blocked, ""},
		{stranger, foreign, ""}, {stranger, tier, ""}, {stranger, org, "/organization"},
		{system, org, ""}, {system, foreign, ""}, {system, tier, ""},
	} {
		a := w.do(tt.caller, "POST", "/apply", `{"dryRun":true,"documents":[`+tt.doc+`]}`)
		if tt.pointer == "" && a.status != 200 || tt.pointer != "" && (a.status != 422 || a.text("errors/0/pointer") != tt.pointer) {
			t.Errorf("%s %s: %d %s", tt.caller, tt.doc, a.status, a.body)
		}
	}
	// Documents that name no organization are of the caller's own.
	for caller, want := range map[string]string{stranger: "other", orgAdmin: "default", system: "default"} {
		a := w.want(200, caller, "POST", "/apply", `{"dryRun":true,"documents":[`+tier+`]}`)
		if a.text("documents/0/organization") != want {
			t.Errorf("%s: %s", caller, a.body)
		}
	}
}

func TestApplyRequest(t *testing.T) {
	w := newWorld(t)
	for body, pointer := range map[string]string{
		`{"documents":[],"wait":"2m"}`:                           "/wait",
		`{"documents":[],"wait":"-1s"}`:                          "/wait",
		`{"documents":[],"wait":10}`:                             "/wait",
		`{"documents":[],"dryrun":true}`:                         "/dryrun",
		`{"documents":{}}`:                                       "/documents",
		`{"documents":[{"kind":"Tier","name":"T","spec":[]}]}`:   "/spec",
		`{"documents":[{"kind":"Tier","name":"T","speck":{}}]}`:  "/documents/0/speck",
		`{"documents":[1]}`:                                      "/documents/0",
		`{"documents":[` + strings.Repeat(`{},`, 10000) + `{}]}`: "/documents",
	} {
		if a := w.want(422, system, "POST", "/apply", body); a.text("errors/0/pointer") != pointer {
			t.Errorf("%.60s: %s", body, a.body)
		}
	}
	if a := w.want(200, system, "POST", "/apply", `{}`); a.at("documents").([]any) == nil {
		t.Errorf("nothing: %s", a.body)
	}
	w.want(413, system, "POST", "/apply", `{"organization":"`+strings.Repeat("x", 17<<20)+`"}`)
}

// Writes wait for the gateways for a moment, and apply says whether they have
// confirmed.
func TestConfirm(t *testing.T) {
	var positions []keymanager.Position
	refuse := false
	w := newWorld(t, func(o *admin.Options) {
		o.Confirm = func(ctx context.Context, p keymanager.Position) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("waits without limit")
			}
			positions = append(positions, p)
			if refuse {
				return errors.New("not yet")
			}
			return nil
		}
	})
	positions = nil
	w.furnish()
	head, err := w.store.Head(t.Context())
	if err != nil || len(positions) == 0 || positions[len(positions)-1] != head {
		t.Errorf("waited for %v, head %v, %v", positions, head, err)
	}
	n := len(positions)
	w.put(system, pets, petsSpec)
	w.want(422, system, "PUT", pets, `{}`)
	if len(positions) != n {
		t.Error("waited for nothing")
	}
	tier := `{"documents":[{"kind":"Tier","name":"T","spec":{"requests":%d}}],"wait":"1s"}`
	if a := w.want(200, system, "POST", "/apply", fmt.Sprintf(tier, 1)); a.at("confirmed") != true {
		t.Errorf("confirmed: %s", a.body)
	}
	refuse = true
	if a := w.want(200, system, "POST", "/apply", fmt.Sprintf(tier, 2)); a.at("confirmed") != false {
		t.Errorf("not confirmed: %s", a.body)
	}
}

// Gateways whose state a test changes.
type changingStates struct{ list []keymanager.GatewayState }

func (s *changingStates) States() []keymanager.GatewayState { return s.list }

// What is applied and refused by the gateways is told so, also when it is
// applied again.
func TestApplySaysWhatGatewaysRefuse(t *testing.T) {
	gateways := &changingStates{}
	w := newWorld(t, func(o *admin.Options) { o.Gateways = gateways })
	const request = `{"organization":"default","documents":[
		{"kind":"Tier","name":"Copper","spec":{"requests":10}},
		{"kind":"API","name":"pets","spec":{"version":"1.0.0","context":"/pets"}}]}`
	if a := w.want(200, system, "POST", "/apply", request); a.at("documents/1/rejected") != nil {
		t.Errorf("nobody refuses: %s", a.body)
	}
	id := w.want(200, system, "GET", inDefault+"/apis/pets/1.0.0", "").text("id")
	gateways.list = []keymanager.GatewayState{{Kind: keymanager.GatewayXDS, ID: "x", Rejected: []keymanager.RejectedResource{
		{API: keymanager.APIID(id), Reason: "no such file"}, {API: "another", Reason: "x"},
	}}}
	a := w.want(200, system, "POST", "/apply", request)
	if a.text("documents/1/rejected") != "no such file" || a.at("documents/0/rejected") != nil || a.at("confirmed") != false {
		t.Errorf("refused: %s", a.body)
	}
}
