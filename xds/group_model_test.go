package xds

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

// TestGroupModel: random changes of APIs in few segments, some of them bad, and
// Envoys that come and go. In the end what is good is in use, what is bad is
// reported and in use nowhere (its last accepted routes may be), and no cluster
// is left over.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 2).Draw(t, "peers"))
		want := map[keymanager.APIID]*keymanager.API{}
		good := map[keymanager.APIID]map[string]bool{} // revs that Envoy takes
		ids := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		one := func(t *rapid.T) *keymanager.API {
			a := api(ids.Draw(t, "api"), fmt.Sprintf("http://127.0.0.1:%d", rapid.IntRange(1, 3).Draw(t, "port")))
			a.Context = fmt.Sprintf("/s%d/%s", rapid.IntRange(1, 3).Draw(t, "segment"), a.Name)
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				a.Timeout = badTimeout
			case 1:
				a.Production = []string{badPort}
			case 2:
				a.Version = badVersion
			case 3, 4:
				a.State = keymanager.StateRetired
			case 5:
				a.Production = []string{"http://name.internal"}
			case 6:
				a.Labels = []string{"elsewhere"}
			}
			return a
		}
		note := func(list ...*keymanager.API) {
			for _, a := range list {
				want[a.ID] = a
				if good[a.ID] == nil {
					good[a.ID] = map[string]bool{}
				}
				if isGood(a) {
					good[a.ID][fmt.Sprint(w.at.Seq)] = true
				}
			}
		}
		somePeer := rapid.IntRange(0, len(w.peers)-1)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				a := one(t)
				w.put(a)
				note(a)
			},
			"changes at once": func(t *rapid.T) {
				for range rapid.IntRange(2, 5).Draw(t, "n") {
					a := one(t)
					w.put(a)
					note(a)
				}
			},
			"remove": func(t *rapid.T) {
				id := keymanager.APIID(ids.Draw(t, "api") + "-1")
				w.submit(delivery{removed: id})
				delete(want, id)
			},
			"snapshot": func(t *rapid.T) {
				var list []*keymanager.API
				for _, id := range slices.Sorted(maps.Keys(want)) {
					c := *want[id]
					list = append(list, &c)
				}
				w.submit(delivery{whole: true, apis: list})
				note(list...)
			},
			"step":   func(*rapid.T) { w.g.step() },
			"settle": func(*rapid.T) { w.settle() },
			"time":   func(*rapid.T) { w.now = w.now.Add(10 * time.Second) },
			"answer": func(t *rapid.T) {
				if p := w.peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.receive()
					if len(p.answers) > 0 {
						p.answer(0)
					}
				}
			},
			"come or go": func(t *rapid.T) {
				p := w.peers[somePeer.Draw(t, "peer")]
				if p.st != nil {
					p.disconnect()
					return
				}
				w.ids++
				p.connect(w.ids)
			},
		})
		w.settle()
		w.now = w.now.Add(time.Minute)
		w.connectAll()
		w.settle()
		rejected := w.rejected()
		for i, p := range w.peers {
			routed := p.routed()
			for id, a := range want {
				rev := routed[id][0]
				switch {
				case !a.Routed() || len(a.Labels) > 0:
					if rev != "" || rejected[id].API != "" {
						t.Errorf("peer %d: %s is unpublished, and routed at rev %q; rejected: %v", i, id, rev, rejected[id])
					}
				case isGood(a):
					if rev != fmt.Sprint(a.Position) && rev != fmt.Sprint(lastRev(good[id])) {
						t.Errorf("peer %d: %s is routed at rev %q, want %v", i, id, rev, lastRev(good[id]))
					}
					if rejected[id].API != "" {
						t.Errorf("%s is rejected: %v", id, rejected[id])
					}
				default:
					if rev != "" && !good[id][rev] {
						t.Errorf("peer %d: %s is routed at the bad rev %q", i, id, rev)
					}
					if rejected[id].API == "" {
						t.Errorf("%s is bad, and not reported", id)
					}
				}
			}
			for id := range routed {
				if want[id] == nil {
					t.Errorf("peer %d: %s was removed, and is routed", i, id)
				}
			}
			w.noLeaks(p)
			p.disconnect()
		}
		if len(w.g.moving) > 0 || len(w.g.retired) > 0 || len(w.g.members) > len(want) {
			t.Errorf("left over: %d moving, %d retired, %d members for %d APIs", len(w.g.moving), len(w.g.retired), len(w.g.members), len(want))
		}
		if w.g.state.confirmed != w.at {
			t.Errorf("confirmed %v, want %v", w.g.state.confirmed, w.at)
		}
	})
}

func isGood(a *keymanager.API) bool {
	return a.Timeout != badTimeout && a.Production[0] != badPort && a.Version != badVersion
}

func lastRev(revs map[string]bool) int {
	last := 0
	for r := range revs {
		var n int
		if _, err := fmt.Sscan(r, &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}
