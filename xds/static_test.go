package xds

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/keymanager"
)

// What a group's golden files hold is in its static configuration, without a
// word of xds.
func TestStatic(t *testing.T) {
	files, err := filepath.Glob("testdata/in/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			in := readInput(t, name)
			o := StaticOptions{Group: in.Group, Certificates: map[string]CertificateFiles{}}
			for _, c := range in.Group.certificates() {
				o.Certificates[c] = CertificateFiles{CertFile: "/c.pem", KeyFile: "/k.pem", CAFile: "/ca.pem"}
			}
			certified := 0
			for i := range in.APIs {
				api := &in.APIs[i]
				api.State = keymanager.StatePublished
				if p, _, err := newPlan(&in.Group, api); err == nil && len(p.trust.certificates()) > 0 {
					certified++
				}
				o.APIs = append(o.APIs, api)
			}
			out, refused, err := Static(o)
			if err != nil || len(refused) != certified {
				t.Fatalf("%v, refused %v", err, refused)
			}
			pushed := buildAll(t, in)
			if len(out.Listeners) != len(pushed.listeners) || len(out.Clusters) != len(pushed.clusters)-certified {
				t.Errorf("%d listeners of %d, %d clusters of %d", len(out.Listeners), len(pushed.listeners), len(out.Clusters), len(pushed.clusters))
			}
			text, err := json.Marshal(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{`"ads"`, `"scoped_rds"`, `"rds_config_source"`} {
				if bytes.Contains(text, []byte(word)) {
					t.Errorf("%s is in it", word)
				}
			}
			again, _, err := Static(o)
			if second, merr := json.Marshal(again); err != nil || merr != nil || !bytes.Equal(text, second) {
				t.Error("the second one differs")
			}
		})
	}
}

func TestStaticRefuses(t *testing.T) {
	group := Group{Name: "g", Hosts: []string{"localhost"}, Listeners: []Listener{{Address: "127.0.0.1", Port: 8080}}}
	good := &keymanager.API{ID: "a", Name: "a", Context: "/a", Version: "1", Protocol: keymanager.HTTP1, Production: []string{"http://127.0.0.1:1"}, State: keymanager.StatePublished}
	bad, other, hidden := *good, *good, *good
	bad.ID, bad.Context, bad.Production = "b", "/b", nil
	other.ID, other.Context, other.Labels = "c", "/c", []string{"elsewhere"}
	hidden.ID, hidden.Context, hidden.State = "d", "/d", keymanager.StateCreated
	out, refused, err := Static(StaticOptions{Group: group, APIs: []*keymanager.API{good, &bad, &other, &hidden}})
	if err != nil || len(out.Clusters) != 1 || len(refused) != 1 || !strings.Contains(refused[0].Error(), "API a/1") {
		t.Errorf("%d clusters, refused %v, %v", len(out.Clusters), refused, err)
	}
	group.Listeners[0].TLS = &ListenerTLS{Certificates: []string{"edge"}}
	if _, _, err := Static(StaticOptions{Group: group}); err == nil || !strings.Contains(err.Error(), "edge") {
		t.Errorf("a listener without its certificate: %v", err)
	}
	if _, _, err := Static(StaticOptions{}); err == nil {
		t.Error("the zero options were built")
	}
}
