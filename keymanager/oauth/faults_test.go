//go:build faults

package oauth_test

import (
	"fmt"
	"testing"
)

// TestFaultOAuth has each statement of each endpoint fail in turn, and each
// commit also after it was carried out.
func TestFaultOAuth(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("F12 error at every statement, commit carried out %t", late), func(t *testing.T) {
			r := newRig(t)
			bearer := "Bearer " + r.issue(r.application("watcher", nil), "")
			var token string
			for _, endpoint := range []struct {
				name string
				call func() reply
			}{
				{"token", func() reply { return r.do(request{auth: []string{r.client.basic()}, body: ccBody}) }},
				{"introspect by secret", func() reply { return r.introspect(r.client.basic(), token) }},
				{"introspect by token", func() reply { return r.introspect(bearer, token) }},
				{"revoke", func() reply { return r.revoke(r.client, token, "") }},
			} {
				token = r.issue(r.client, "")
				before, done := r.state(), 0
				for n := 1; ; n++ {
					r.failing.Arm(n, late)
					got := endpoint.call()
					if !r.failing.Disarm() {
						if got.status != 200 || n == 1 {
							t.Errorf("%s without a fault: %d %s, %d statements", endpoint.name, got.status, got.body, n-1)
						}
						t.Logf("%s: %d statements", endpoint.name, n-1)
						break
					}
					r.checkUnavailable(got)
					if after := r.state(); after != before {
						if done++; !late || done > 1 {
							t.Errorf("%s, statement %d: %s, before %s", endpoint.name, n, after, before)
						}
						before = after
					}
					if done > 0 { // the outcome was not known: once more is as good as once
						if again := endpoint.call(); again.status != 200 || r.state() != before {
							t.Errorf("%s again: %d %s, %s", endpoint.name, again.status, again.body, r.state())
						}
						break
					}
				}
			}
			if n := len(r.dead()); n != 1 {
				t.Errorf("%d tokens are dead, want the one that was revoked", n)
			}
		})
	}
}

// state is what a request may have written.
func (r *rig) state() string {
	return fmt.Sprintf("%d tokens dead, log at %s", len(r.dead()), r.head())
}
