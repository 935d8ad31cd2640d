package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

// grant is who may use which certificate; a name that is left out is not there.
func (w *world) grant(users map[string]string) {
	c := &certificates{good: map[string]*loaded{}, problems: map[string]problem{}}
	for name, org := range users {
		c.good[name] = &loaded{expires: w.now.Add(time.Hour), authorities: []byte("authorities of " + name), users: []keymanager.OrganizationID{keymanager.OrganizationID(org)}}
	}
	w.g.submit(delivery{certs: c})
}

// secureAPI is an API in segment s whose back end is verified by the
// certificate; "" is one in clear text.
func secureAPI(name, host, certificate string) *keymanager.API {
	a := api(name, "http://"+host)
	if certificate != "" {
		a = api(name, "https://"+host)
		a.Backend.TLS = &keymanager.BackendTLS{CA: certificate}
	}
	a.Context = "/s/" + name
	return a
}

// Who may no longer use a certificate has no routes with it, whatever its API
// was about to become; its neighbour in the same table goes on.
func TestRightToACertificateIsLost(t *testing.T) {
	for _, row := range []struct {
		name   string
		before func(w *world, p *peer)
		left   map[string]string // of the certificates
		want   string            // part of the rejection (an Envoy says "no"); "" = none
		routed bool              // once all has settled
	}{
		{"taken away", nil, map[string]string{"x": "emca", "y": "acme"}, `certificate "x": there is none of that name that organization "acme" may use`, false},
		{"left out", nil, map[string]string{"y": "acme"}, `certificate "x": there is none`, false},
		{"kept", nil, map[string]string{"x": "acme", "y": "acme"}, "", true},
		{"while another comes", func(w *world, p *peer) {
			w.put(secureAPI("own", "name.internal", "y")) // its cluster is not warm yet
			w.g.step()
			p.hear()
		}, map[string]string{"y": "acme"}, "", true},
		{"while a refused one is in", func(w *world, _ *peer) {
			a := secureAPI("own", "127.0.0.1:9", "y")
			a.Timeout = badTimeout
			w.put(a)
			w.settle() // back at x
		}, map[string]string{"y": "acme"}, "no", false},
		{"before a refusal", func(w *world, p *peer) {
			a := secureAPI("own", "127.0.0.1:9", "y")
			a.Timeout = badTimeout
			w.put(a)
			w.g.step()
			p.hear() // and has not answered
		}, map[string]string{"y": "acme"}, "no", false},
		{"before it is accepted, after one that still may", func(w *world, p *peer) {
			w.put(secureAPI("own", "127.0.0.1:9", "y"))
			w.settle()
			w.put(secureAPI("own", "127.0.0.1:9", "x"))
			w.g.step()
			p.hear()
			p.answerAll(clusters, secrets)
			w.g.step()
			p.hear() // its routes, and has not answered
		}, map[string]string{"y": "acme"}, `certificate "x"`, false},
		{"of a newer one that is refused", func(w *world, _ *peer) {
			w.put(secureAPI("own", "127.0.0.1:9", "z")) // nobody may use it
			w.settle()
		}, map[string]string{"y": "acme"}, `certificate "z"`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, 1)
			p := w.peers[0]
			w.grant(map[string]string{"x": "acme", "y": "acme"})
			w.put(secureAPI("own", "127.0.0.1:9", "x"), secureAPI("other", "127.0.0.1:9", "y"), secureAPI("plain", "127.0.0.1:9", ""))
			w.settle()
			before := p.routed()
			if len(before) != 3 {
				t.Fatalf("routed %v", before)
			}
			if row.before != nil {
				row.before(w, p)
			}
			w.grant(row.left)
			w.g.step()
			p.hear()
			if row.left["x"] != "acme" && p.routed()["own-1"][1] == before["own-1"][1] {
				t.Error("it is routed with what it may not use")
			}
			w.settle()
			after := p.routed()
			if _, routed := after["own-1"]; routed != row.routed {
				t.Errorf("routed: %v, want own %t", after, row.routed)
			}
			for _, id := range []keymanager.APIID{"other-1", "plain-1"} {
				if after[id] != before[id] {
					t.Errorf("%s was %v and is %v", id, before[id], after[id])
				}
			}
			switch got := w.rejected(); {
			case row.want == "" && len(got) > 0:
				t.Errorf("rejected %v", got)
			case row.want != "" && (len(got) != 1 || !strings.Contains(got["own-1"].Reason, row.want)):
				t.Errorf("rejected %v, want %q", got, row.want)
			}
			w.noLeaks(p)

			// The right comes back.
			w.put(secureAPI("own", "127.0.0.1:9", "x"))
			w.grant(map[string]string{"x": "acme", "y": "acme"})
			w.settle()
			if p.routed()["own-1"][0] == "" || len(w.rejected()) > 0 {
				t.Errorf("when it may again: routed %v, rejected %v", p.routed(), w.rejected())
			}
			w.noLeaks(p)
		})
	}
}

// TestRightsModel: whatever changes in whichever order, no table has routes with
// a certificate that its organization may not use, and in the end those have
// routes that may.
func TestRightsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 2).Draw(t, "peers"))
		want := map[keymanager.APIID]*keymanager.API{}
		rights := map[string]string{}
		somePeer := rapid.IntRange(0, len(w.peers)-1)
		check := func() {
			for id, mb := range w.g.members {
				for _, pl := range []*plan{mb.live, mb.good} {
					if pl == nil {
						continue
					}
					for _, name := range pl.trust.certificates() {
						if rights[name] != "acme" {
							t.Errorf("%s uses %q, which it may not", id, name)
						}
					}
				}
			}
		}
		step := func() { w.g.step(); check() }
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				a := secureAPI(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "api"),
					rapid.SampledFrom([]string{"127.0.0.1:1", "127.0.0.1:2", "name.internal"}).Draw(t, "host"),
					rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "certificate"))
				a.Context = fmt.Sprintf("/s%d/%s", rapid.IntRange(1, 2).Draw(t, "segment"), a.Name)
				switch rapid.IntRange(0, 6).Draw(t, "what") {
				case 0:
					a.Timeout = badTimeout
				case 1:
					a.State = keymanager.StateRetired
				}
				w.put(a)
				want[a.ID] = a
			},
			"rights": func(t *rapid.T) {
				rights = map[string]string{}
				for _, name := range []string{"x", "y", "z"} {
					if org := rapid.SampledFrom([]string{"acme", "acme", "emca", ""}).Draw(t, name); org != "" {
						rights[name] = org
					}
				}
				w.grant(rights)
				step()
			},
			"step":   func(*rapid.T) { step() },
			"settle": func(*rapid.T) { w.settle(); check() },
			"answer": func(t *rapid.T) {
				if p := w.peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.receive()
					if len(p.answers) > 0 {
						p.answer(0)
					}
				}
			},
		})
		w.settle()
		w.now = w.now.Add(time.Minute) // what was refused is tried again
		w.settle()
		check()
		for i, p := range w.peers {
			routed := p.routed()
			for id, a := range want {
				may := a.Backend.TLS == nil || rights[a.Backend.TLS.CA] == "acme"
				_, found := routed[id]
				switch {
				case !a.Routed() && found:
					t.Errorf("peer %d: %s is retired, and routed", i, id)
				case a.Routed() && may && a.Timeout != badTimeout && !found:
					t.Errorf("peer %d: %s is not routed; rejected: %v", i, id, w.rejected()[id])
				case a.Routed() && (!may || a.Timeout == badTimeout) && w.rejected()[id].Reason == "":
					t.Errorf("peer %d: %s is not reported", i, id)
				}
			}
			w.noLeaks(p)
		}
	})
}
