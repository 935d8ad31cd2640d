package authz

import (
	"hash/maphash"
	"runtime"
	"testing"
	"weak"

	"tollgate/authz/apis"
	"tollgate/keymanager"
)

// TestRepliesLetGo: an answer that is given stays as it is, and one that is no
// longer given goes, with the grant and the API that it is of.
func TestRepliesLetGo(t *testing.T) {
	r := &replies{seed: maphash.MakeSeed()}
	decision := func() *Decision {
		return &Decision{
			Reason: allowed, API: &apis.API{Name: "Pets", Version: "1.0.0"}, Env: keymanager.Production,
			Verdict: &keymanager.Verdict{Grant: &keymanager.Grant{Application: keymanager.GrantApplication{ID: "app-1"}}},
		}
	}
	asked, left := decision(), decision()
	first := r.of(asked)
	r.of(left)
	grant, api := weak.Make(left.Verdict.Grant), weak.Make(left.API)
	left = nil
	for range 3 {
		r.tidy()
		if r.of(asked) != first {
			t.Error("an answer was made again although it is asked for all the time")
		}
	}
	runtime.GC()
	if grant.Value() != nil || api.Value() != nil {
		t.Error("the grant and the API of an answer that nobody asks for are still there")
	}
	r.tidy()
	r.tidy()
	for i := range r.places {
		if r.places[i].Load() != nil {
			t.Error("an answer is still there that nobody asks for")
		}
	}
}
