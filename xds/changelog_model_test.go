package xds

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestChangeLogModel: whatever the order of changes, answers, refusals and
// reconnections, each Envoy ends with exactly the good content: what is good as
// it is now, what is bad not at all or as it last accepted it, and nothing that
// was removed.
func TestChangeLogModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := testLog(t)
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		someKind := rapid.SampledFrom([]kind{clusters, listeners, scopes})
		peers := make([]*peer, rapid.IntRange(1, 3).Draw(t, "peers"))
		for i := range peers {
			peers[i] = newPeer(l)
			peers[i].whole = rapid.Bool().Draw(t, "whole")
		}
		ids := int64(0)
		contents := 0
		somePeer := rapid.IntRange(0, len(peers)-1)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				var out []change
				for range rapid.IntRange(1, 6).Draw(t, "changes") {
					k, name := someKind.Draw(t, "kind"), names.Draw(t, "name")
					switch rapid.IntRange(0, 5).Draw(t, "what") {
					case 0:
						out = append(out, change{kind: k, name: name})
					case 1:
						contents++
						out = append(out, put(k, name, fmt.Sprintf("!%d", contents)))
					case 2: // perhaps what it was before
						out = append(out, put(k, name, rapid.SampledFrom([]string{"x", "y", "!z"}).Draw(t, "old")))
					default:
						contents++
						out = append(out, put(k, name, fmt.Sprint(contents)))
					}
				}
				l.update(out)
			},
			"connect": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st == nil {
					ids++
					p.connect(ids)
				}
			},
			"disconnect": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.disconnect()
				}
			},
			"receive": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; p.st != nil {
					p.receive()
				}
			},
			"answer": func(t *rapid.T) {
				if p := peers[somePeer.Draw(t, "peer")]; len(p.answers) > 0 && p.st != nil {
					p.answer(rapid.IntRange(0, len(p.answers)-1).Draw(t, "answer"))
				}
			},
			"": func(t *rapid.T) {
				for k := range kinds {
					if low := l.acknowledged(k); low > l.seq {
						t.Fatalf("%s: %d acknowledged of %d", k, low, l.seq)
					}
				}
			},
		})
		for _, p := range peers {
			if p.st == nil {
				ids++
				p.connect(ids)
			}
		}
		for range 3 { // a peer's answers may set nothing of another's free
			for _, p := range peers {
				p.settle()
			}
		}
		for i, p := range peers {
			for k := range kinds {
				for name, e := range l.tables[k].entries {
					version := versionString(e.now.version)
					switch {
					case e.now.value == nil:
						t.Errorf("peer %d: %s %s is removed everywhere, and not forgotten", i, k, name)
					case bad(e.now.value) && p.has[k][name] == version:
						t.Errorf("peer %d has the bad %s %s", i, k, name)
					case !bad(e.now.value) && p.has[k][name] != version:
						t.Errorf("peer %d has %s %s in version %q, want %q", i, k, name, p.has[k][name], version)
					}
				}
				if k == clusters && len(p.st.feeds[scopes].refused) > 0 {
					continue // it may use what was removed while it was away
				}
				for name := range p.has[k] {
					if e := l.tables[k].entries[name]; e == nil || e.now.value == nil {
						t.Errorf("peer %d still has %s %s", i, k, name)
					}
				}
				if got := l.acknowledged(k); got != l.seq {
					t.Errorf("%s: %d acknowledged of %d, and all is answered", k, got, l.seq)
				}
			}
			p.disconnect()
		}
	})
}
