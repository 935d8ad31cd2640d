package xds

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/envoy/envoytest"
	"tollgate/keymanager"
)

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
			c, err := buildAPICluster(p, a.Protocol, ends)
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
	if _, err := buildAPICluster(p, a.Protocol, ends); err == nil {
		t.Error("https without trusted certificates is accepted")
	}
}

func TestGroupOptions(t *testing.T) {
	ca := envoytest.NewCA(t)
	shows := func(uri string) func(*Options) {
		p := ca.Issue(envoytest.Leaf{URI: uri})
		return func(o *Options) {
			o.TrustDomain = "tollgate.test"
			o.Certificates = map[string]Certificate{"us": {CertPEM: p.Cert, KeyPEM: p.Key, CAPEM: ca.PEM}}
			o.Groups[0].KeyManager = KeyManager{Addresses: []string{"https://127.0.0.1:9443"}, CA: "us", ClientCertificate: "us"}
		}
	}
	good := Group{Name: "g", Hosts: []string{"localhost"}, Listeners: []Listener{{Address: "127.0.0.1", Port: 1}}}
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
			o.Groups[0].Listeners = []Listener{{Address: "127.0.0.1", Port: 1}, {Address: "::1", Port: 1}}
		}, false},
		{"key manager", func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"http://127.0.0.1:9443"} }, true},
		{"key manager with path", func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"http://127.0.0.1:9443/x"} }, false},
		{"key manager socket", func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"unix:/tmp/km.sock"} }, true},
		{"relative socket", func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"unix:km.sock"} }, false},
		{"a certificate in clear text", func(o *Options) {
			o.Groups[0].KeyManager = KeyManager{Addresses: []string{"http://127.0.0.1:9443"}, ClientCertificate: "us"}
		}, false},
		{"the certificate of a gateway", shows("spiffe://tollgate.test/gateway/g/token"), true},
		{"that of another group", shows("spiffe://tollgate.test/gateway/other/token"), false},
		{"that of an xds", shows("spiffe://tollgate.test/xds/x"), false},
		{"that of nobody", shows(""), false},
		{"https without authorities", func(o *Options) { o.Groups[0].KeyManager.Addresses = []string{"https://km"} }, false},
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
