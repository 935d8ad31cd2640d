package xds

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
	"tollgate/keymanager"
)

var update = flag.Bool("update", false, "rewrite testdata/out")

//go:generate go test -tags short -count=1 -run ^TestGolden$ . -update

// input is a file of testdata/in: a gateway group and its APIs.
type input struct {
	Group Group
	APIs  []keymanager.API `yaml:"apis"`
}

func readInput(t testing.TB, name string) input {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "in", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var in input
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&in); err != nil {
		t.Fatal(err)
	}
	if err := in.Group.check(); err != nil {
		t.Fatal(err)
	}
	return in
}

// built is everything that a group pushes, by kind and in order of names.
type built struct{ clusters, listeners, scopes []proto.Message }

func buildAll(t testing.TB, in input) built {
	t.Helper()
	var out built
	must := func(m proto.Message, err error) proto.Message {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	g := &in.Group
	known := map[string]bool{envoy.ClusterKeyManager: true}
	if g.KeyManager != "" {
		c, err := buildKeyManagerCluster(g)
		out.clusters = append(out.clusters, must(c, errOr(err, func() error { return proveCluster(c) })))
		tables, err := buildKeyManagerScopes(g)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tables {
			out.scopes = append(out.scopes, must(s, proveScope(g, s, func(c string) bool { return known[c] })))
		}
	}
	for _, l := range g.Listeners {
		m, err := buildListener(g, l)
		out.listeners = append(out.listeners, must(m, errOr(err, func() error { return proveListener(m) })))
	}
	bySegment := map[string][]*plan{}
	for i := range in.APIs {
		p, ends, err := newPlan(g, &in.APIs[i])
		if err != nil {
			t.Fatal(err)
		}
		c, err := buildAPICluster(g, p, in.APIs[i].Protocol, ends)
		out.clusters = append(out.clusters, must(c, errOr(err, func() error { return proveCluster(c) })))
		known[p.cluster] = true
		bySegment[p.segment] = append(bySegment[p.segment], p)
	}
	var segments []string
	for s := range bySegment {
		segments = append(segments, s)
	}
	slices.Sort(segments)
	for _, s := range segments {
		m, err := buildScope(g, s, bySegment[s])
		out.scopes = append(out.scopes, must(m, errOr(err, func() error {
			return proveScope(g, m, func(c string) bool { return known[c] })
		})))
	}
	return out
}

func errOr(err error, fn func() error) error {
	if err != nil {
		return err
	}
	return fn()
}

// TestGolden holds what is sent to Envoy. After a change that is meant:
// go test ./xds -run TestGolden -update, and read the difference.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/in/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			b := buildAll(t, readInput(t, name))
			var doc struct {
				Clusters  []json.RawMessage `json:"clusters"`
				Listeners []json.RawMessage `json:"listeners"`
				Scopes    []json.RawMessage `json:"scopes"`
			}
			doc.Clusters, doc.Listeners, doc.Scopes = toJSON(t, b.clusters), toJSON(t, b.listeners), toJSON(t, b.scopes)
			got, err := json.MarshalIndent(doc, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", "out", name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// toJSON writes messages with their fields in order and one spacing: protojson
// varies both on purpose.
func toJSON(t testing.TB, list []proto.Message) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	for _, m := range list {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		if raw, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

// Two builds are equal byte for byte: otherwise every rebuild, and every
// reconnection to another replica, would push everything.
func TestBuildsAreEqual(t *testing.T) {
	for _, name := range []string{"rest", "streams"} {
		in := readInput(t, name)
		var first []byte
		for i := range 20 {
			b := buildAll(t, in)
			var all []byte
			for _, m := range slices.Concat(b.clusters, b.listeners, b.scopes) {
				value, _, err := encode(m)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, value...)
			}
			if i == 0 {
				first = all
			}
			if !bytes.Equal(first, all) {
				t.Fatalf("%s: build %d differs", name, i)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	g := &Group{Name: "default", Hosts: []string{"localhost"}, CAFile: "/ca.pem"}
	for _, tt := range []struct {
		name   string
		change func(*keymanager.API)
		err    string // "" = accepted
	}{
		{"plain", func(*keymanager.API) {}, ""},
		{"dot in id", func(a *keymanager.API) { a.ID = "a.b" }, "id"},
		{"no id", func(a *keymanager.API) { a.ID = "" }, "id"},
		{"no context", func(a *keymanager.API) { a.Context = "" }, "base path"},
		{"context without slash", func(a *keymanager.API) { a.Context = "pets" }, "base path"},
		{"dot segment", func(a *keymanager.API) { a.Context = "/pets/.." }, "base path"},
		{"double slash", func(a *keymanager.API) { a.Context = "/pets//x" }, "base path"},
		{"escape", func(a *keymanager.API) { a.Context = "/p%65ts" }, "base path"},
		{"parameter", func(a *keymanager.API) { a.Context = "/pets;v=1" }, "base path"},
		{"query", func(a *keymanager.API) { a.Version = "1?x" }, "base path"},
		{"not UTF-8", func(a *keymanager.API) { a.Context = "/\xff" }, "base path"},
		{"token endpoint", func(a *keymanager.API) { a.Context = "/oauth2" }, "belongs to the gateway"},
		{"below well-known", func(a *keymanager.API) { a.Context = "/.well-known/x" }, "belongs to the gateway"},
		{"upper-case host", func(a *keymanager.API) { a.Hosts = []string{"API.example.com"} }, "host"},
		{"host with port", func(a *keymanager.API) { a.Hosts = []string{"api.example.com:80"} }, "host"},
		{"host twice", func(a *keymanager.API) { a.Hosts = []string{"a.example", "a.example"} }, "host"},
		{"empty host", func(a *keymanager.API) { a.Hosts = []string{""} }, "host"},
		{"IPv6 host", func(a *keymanager.API) { a.Hosts = []string{"[::1]"} }, ""},
		{"suffix host", func(a *keymanager.API) { a.Hosts = []string{"*.example.com"} }, ""},
		{"negative timeout", func(a *keymanager.API) { a.Timeout = -1 }, "negative"},
		{"no endpoint", func(a *keymanager.API) { a.Production = nil }, "no endpoint"},
		{"scheme", func(a *keymanager.API) { a.Production = []string{"ftp://x"} }, "scheme"},
		{"user", func(a *keymanager.API) { a.Production = []string{"http://u:secret@x"} }, "user"},
		{"endpoint query", func(a *keymanager.API) { a.Production = []string{"http://x?y"} }, "query"},
		{"port", func(a *keymanager.API) { a.Production = []string{"http://x:0"} }, "port"},
		{"port too high", func(a *keymanager.API) { a.Production = []string{"http://x:65536"} }, "port"},
		{"no host", func(a *keymanager.API) { a.Production = []string{"http:///v1"} }, "host"},
		{"other base path", func(a *keymanager.API) { a.Sandbox = []string{"http://x/v2"} }, "base path"},
		{"newline in CORS", func(a *keymanager.API) {
			a.CORS = &keymanager.CORS{AllowOrigins: []string{"https://x"}, AllowHeaders: []string{"a\nb"}}
		}, "cors"},
		{"everyone with credentials", func(a *keymanager.API) {
			a.CORS = &keymanager.CORS{AllowOrigins: []string{"*"}, AllowCredentials: true}
		}, "cors"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := api("pets", "http://127.0.0.1:9/v1")
			tt.change(a)
			p, ends, err := newPlan(g, a)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("got %v, want an error about %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c, err := buildAPICluster(g, p, a.Protocol, ends)
			if err == nil {
				err = proveCluster(c)
			}
			if err != nil {
				t.Fatal(err)
			}
			s, err := buildScope(g, p.segment, []*plan{p})
			if err == nil {
				err = proveScope(g, s, func(name string) bool { return name == c.GetName() })
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The cluster's name says what it is: what changes back ends, protocol or
// certificates changes it, and nothing else does.
func TestClusterIdentity(t *testing.T) {
	g := &Group{Name: "default", Hosts: []string{"localhost"}, CAFile: "/ca.pem"}
	name := func(g *Group, change func(*keymanager.API)) string {
		t.Helper()
		a := api("pets", "https://a.internal/v1")
		change(a)
		p, _, err := newPlan(g, a)
		if err != nil {
			t.Fatal(err)
		}
		return p.cluster
	}
	base := name(g, func(*keymanager.API) {})
	for what, other := range map[string]string{
		"timeout": name(g, func(a *keymanager.API) { a.Timeout = 1 }),
		"path":    name(g, func(a *keymanager.API) { a.Production = []string{"https://a.internal/v2"} }),
		"version": name(g, func(a *keymanager.API) { a.Version = "7"; a.Position = 99 }),
	} {
		if other != base {
			t.Errorf("%s changes the cluster's name", what)
		}
	}
	for what, other := range map[string]string{
		"back end":    name(g, func(a *keymanager.API) { a.Production = []string{"https://b.internal/v1"} }),
		"environment": name(g, func(a *keymanager.API) { a.Production, a.Sandbox = nil, a.Production }),
		"protocol":    name(g, func(a *keymanager.API) { a.Protocol = keymanager.HTTP2 }),
		"authorities": name(&Group{Name: "default", Hosts: g.Hosts, CAFile: "/other.pem"}, func(*keymanager.API) {}),
	} {
		if other == base {
			t.Errorf("%s does not change the cluster's name", what)
		}
	}
	if want := "be/pets-1/"; !strings.HasPrefix(base, want) || strings.Contains(base, ".") {
		t.Errorf("cluster %q, want it to begin with %q and to have no dot", base, want)
	}
}

func TestTLSNeedsAuthorities(t *testing.T) {
	g := &Group{Name: "default", Hosts: []string{"localhost"}}
	a := api("pets", "https://a.internal")
	p, ends, err := newPlan(g, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buildAPICluster(g, p, a.Protocol, ends); err == nil {
		t.Error("https without trusted certificates is accepted")
	}
}

func TestGroupOptions(t *testing.T) {
	good := Group{Name: "g", Hosts: []string{"localhost"}, Listeners: []Listener{{"127.0.0.1", 1}}}
	for _, tt := range []struct {
		name   string
		change func(*Options)
		ok     bool
	}{
		{"good", func(*Options) {}, true},
		{"no catalog", func(o *Options) { o.Catalog = nil }, false},
		{"no clock", func(o *Options) { o.Now = nil }, false},
		{"no id", func(o *Options) { o.ID = "" }, false},
		{"no group", func(o *Options) { o.Groups = nil }, false},
		{"group twice", func(o *Options) { o.Groups = append(o.Groups, o.Groups[0]) }, false},
		{"group with slash", func(o *Options) { o.Groups[0].Name = "a/b" }, false},
		{"no host", func(o *Options) { o.Groups[0].Hosts = nil }, false},
		{"host with port", func(o *Options) { o.Groups[0].Hosts = []string{"a:1"} }, false},
		{"no listener", func(o *Options) { o.Groups[0].Listeners = nil }, false},
		{"listener by name", func(o *Options) { o.Groups[0].Listeners[0].Address = "localhost" }, false},
		{"port twice", func(o *Options) {
			o.Groups[0].Listeners = []Listener{{"127.0.0.1", 1}, {"::1", 1}}
		}, false},
		{"key manager", func(o *Options) { o.Groups[0].KeyManager = "http://127.0.0.1:9443" }, true},
		{"key manager with path", func(o *Options) { o.Groups[0].KeyManager = "http://127.0.0.1:9443/x" }, false},
		{"key manager socket", func(o *Options) { o.Groups[0].KeyManager = "unix:/tmp/km.sock" }, true},
		{"relative socket", func(o *Options) { o.Groups[0].KeyManager = "unix:km.sock" }, false},
		{"https without authorities", func(o *Options) { o.Groups[0].KeyManager = "https://km" }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := good
			g.Listeners = slices.Clone(good.Listeners)
			o := Options{ID: "x", Catalog: newCatalog(), Now: time.Now, Groups: []Group{g}}
			tt.change(&o)
			s, err := New(o)
			if (err == nil) != tt.ok {
				t.Errorf("New: %v", err)
			}
			if s != nil {
				s.stop()
			}
		})
	}
}

// TestPathTree: the tree and the list choose the same routes, told by what is in
// them: each key carries its own route and then those of its string prefixes.
func TestPathTree(t *testing.T) {
	g := &Group{Name: "default", Hosts: []string{"localhost"}}
	var plans []*plan
	add := func(context, version string) {
		a := api("x")
		a.ID = keymanager.APIID(fmt.Sprintf("api-%d", len(plans)))
		a.Context, a.Version = context, version
		p, _, err := newPlan(g, a)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	add("/big", "1")
	add("/big", "1.0")
	add("/big/1.0", "x")
	for i := range linearRoutes {
		add(fmt.Sprintf("/big/n%d", i), "1")
	}
	s, err := buildScope(g, "big", plans)
	if err != nil {
		t.Fatal(err)
	}
	if err := proveScope(g, s, func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	vh := s.GetRouteConfiguration().GetVirtualHosts()[0]
	if len(vh.GetRoutes()) > 0 || len(vh.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap()) != len(plans) {
		t.Fatal("no tree with a key for each API")
	}
	for key, want := range map[string][]string{
		"/big/1":     {"/big/1"},
		"/big/1.0":   {"/big/1.0", "/big/1"},
		"/big/1.0/x": {"/big/1.0/x", "/big/1.0", "/big/1"},
		"/big/n11/1": {"/big/n11/1"},
	} {
		match := vh.GetMatcher().GetMatcherTree().GetPrefixMatchMap().GetMap()[key]
		routes, err := routesAt(match.GetAction().GetTypedConfig())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range routes {
			got = append(got, r.GetMatch().GetPathSeparatedPrefix())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}
