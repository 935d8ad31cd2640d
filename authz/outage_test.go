package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"tollgate/keymanager"
)

// TestOutagesAreNotDenials: what is not known is 503.
func TestOutagesAreNotDenials(t *testing.T) {
	ask := func(r *rig) seen {
		return see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken}))
	}
	t.Run("not loaded", func(t *testing.T) {
		if got := ask(newRig(t, nil)); got != (seen{503, "900900", "syncing", true}) {
			t.Errorf("%+v", got)
		}
	})
	for name, f := range map[string]func(context.Context, keymanager.Query) (*keymanager.Verdict, error){
		"down":   func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, errors.New("down") },
		"panics": func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { panic("bug") },
		"not found, which no Validator says": func(context.Context, keymanager.Query) (*keymanager.Verdict, error) {
			return nil, keymanager.Errorf(keymanager.KindNotFound, "no")
		},
		"hangs": func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run("key manager "+name, func(t *testing.T) {
			r := newRig(t, nil).run(t)
			r.grant(nil)
			r.km.OnValidate(f)
			if got := ask(r); got != (seen{503, "900900", "key_manager_unavailable", true}) {
				t.Errorf("%+v", got)
			}
			r.km.OnValidate(nil)
			if got := ask(r); got.status != 200 {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
	t.Run("says nothing", func(t *testing.T) {
		r := newRig(t, nil).run(t)
		r.km.OnValidate(func(context.Context, keymanager.Query) (*keymanager.Verdict, error) { return nil, nil })
		if got := ask(r); got != (seen{503, "900900", "unknown_verdict", true}) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("authz panics", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Tags = panicTags{} }).run(t)
		m := r.check(t, call{path: envoyPath + "/items", headers: withToken})
		if e := m.GetErrorResponse(); e.GetStatus().GetCode() != 503 || m.GetDynamicMetadata().GetFields()["reason"].GetStringValue() != "panicked" {
			t.Errorf("%v", m)
		}
		if r.server.record.decisions[panicked].value() != 1 {
			t.Error("a panic is not counted")
		}
	})
	t.Run("busy", func(t *testing.T) {
		r := newRig(t, nil).run(t)
		release := make(chan struct{})
		defer close(release)
		r.km.OnValidate(func(ctx context.Context, _ keymanager.Query) (*keymanager.Verdict, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, errors.New("late")
		})
		reasons := make(chan string, 200)
		for i := range 200 {
			go func() {
				reasons <- see(t, r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + goodToken + fmt.Sprint(i)}})).reason
			}()
		}
		count := map[string]int{}
		for range 200 {
			count[<-reasons]++
		}
		if _, most := r.km.Validations(); most > 64 || count["overloaded"] < 100 || count["overloaded"]+count["key_manager_unavailable"] != 200 {
			t.Errorf("%d calls at once; %v", most, count)
		}
	})
}

type panicTags struct{}

func (panicTags) Check(keymanager.CredentialKind, string) bool { panic("tgat_good1") }

// TestNoLookUpForWhatIsNotOurs: a flood of forged credentials reaches nobody.
func TestNoLookUpForWhatIsNotOurs(t *testing.T) {
	r := newRig(t, nil).run(t)
	for _, value := range []string{"x", "tgat_bad", "tgrt_good", strings.Repeat("\xff", 100), "a.b.c", strings.Repeat("a", 200_000)} {
		for _, header := range [][]string{{"authorization", "Bearer " + value}, {"apikey", value}} {
			if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: header})); got.status != 401 || got.code != "900901" {
				t.Errorf("%.20q: %+v", value, got)
			}
		}
	}
	calls, _ := r.km.Validations()
	active, negative := r.lru.Len()
	if calls != 0 || active+negative != 0 {
		t.Errorf("%d calls of the key manager, %d entries cached", calls, active+negative)
	}
}

// boomTags panic at one credential.
type boomTags struct{ prefixTags }

func (b boomTags) Check(kind keymanager.CredentialKind, value string) bool {
	if strings.Contains(value, "boom") {
		panic(value)
	}
	return b.prefixTags.Check(kind, value)
}

// TestFaultPanic: a request that makes authz panic gets 503, and nobody else
// notices.
func TestFaultPanic(t *testing.T) {
	t.Run("F43 one in two panics", func(t *testing.T) {
		var log lines
		r := newRig(t, func(o *Options) { o.Tags, o.Logger = boomTags{}, slog.New(slog.NewTextHandler(&log, nil)) }).run(t)
		r.grant(nil)
		const each = 200
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range each {
					if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: withToken})); got.status != 200 {
						t.Errorf("beside a panic: %+v", got)
					}
					m := r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + goodToken + "boom"}})
					if m.GetErrorResponse().GetStatus().GetCode() != 503 {
						t.Errorf("a panic: %v", m)
					}
				}
			})
		}
		wait.Wait()
		if n := r.server.record.decisions[panicked].value(); n != 4*each {
			t.Errorf("%d panics are counted, want %d", n, 4*each)
		}
		if n := r.server.gate.inside(); n != 0 {
			t.Errorf("%d places are lost", n)
		}
		if strings.Contains(log.String(), goodToken+"boom") {
			t.Error("the log holds the credential")
		}
	})
}
