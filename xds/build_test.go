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
	if len(g.KeyManager.Addresses) > 0 {
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
		c, err := buildAPICluster(p, in.APIs[i].Protocol, ends)
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

// TestPathTree: the tree and the list choose the same routes, told by what is in
// them: each key carries its own route and then those of the base paths above it.
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
		"/big/1.0":   {"/big/1.0"}, // no path below is "/big/1"'s
		"/big/1.0/x": {"/big/1.0/x", "/big/1.0"},
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
