package authz

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
)

// TestNothingPassesAfterConfirmation: while callers use every credential all
// the time and caches are warm, no request that begins after an event was
// confirmed is decided as before it.
func TestNothingPassesAfterConfirmation(t *testing.T) {
	const tokens, workers = 30, 4
	r := newRig(t, nil).run(t)
	credential := func(i int) string { return fmt.Sprintf("%s-%d", goodToken, i) }
	verdict := func(i int) *keymanager.Verdict {
		v := keymanagertest.ActiveVerdict(0, time.Now())
		v.TokenID = keymanager.TokenID{1, byte(i)}
		v.Grant.Application.ID = keymanager.ApplicationID(fmt.Sprint("app-", i))
		return v
	}
	for i := range tokens {
		r.km.SetVerdict(keymanagerToken(credential(i)), "", verdict(i))
	}
	var confirmed [tokens]atomic.Bool
	var passed atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			for i := worker; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := i % tokens
				before := confirmed[n].Load()
				got := see(t, r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + credential(n)}}))
				if before && got.status == 200 {
					t.Errorf("token %d passes after its end was confirmed", n)
					return
				}
				if got.status == 200 {
					passed.Add(1)
				}
			}
		})
	}
	eventually(t, "warm", func() bool { return passed.Load() > 10*tokens })
	for i := range tokens {
		var p keymanager.Position
		if i%2 == 0 {
			p = r.km.Kill(keymanager.Dead{TokenID: keymanager.TokenID{1, byte(i)}})
		} else { // a change that makes verdicts outdated
			v := verdict(i)
			v.Grant.Subscription.State = keymanager.Blocked
			r.km.SetVerdict(keymanagerToken(credential(i)), "", v)
			p = r.km.Stale(keymanager.Stale{Application: v.Grant.Application.ID})
		}
		r.settle(t, p)
		confirmed[i].Store(true)
	}
	reached := passed.Load()
	for n := range tokens {
		if got := see(t, r.check(t, call{path: envoyPath + "/items", headers: []string{"authorization", "Bearer " + credential(n)}})); got.status == 200 {
			t.Errorf("token %d passes at the end", n)
		}
	}
	close(stop)
	wait.Wait()
	if reached == 0 {
		t.Error("nothing ever passed")
	}
}
