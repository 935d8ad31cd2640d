package oauth_test

import (
	"context"
	"sync"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/store"
)

// witness remembers how urgent a look at a client was.
type witness struct {
	oauth.Store
	last  store.Urgency
	begun chan store.Urgency // of transactions, which wait for end; nil = they do not
	end   chan struct{}
}

func (w *witness) InTx(ctx context.Context, fn func(store.Store) error) (keymanager.Position, error) {
	if w.begun != nil {
		w.begun <- store.UrgencyOf(ctx)
		<-w.end
	}
	return w.Store.InTx(ctx, fn)
}

func (w *witness) ClientFacts(ctx context.Context, k keymanager.ConsumerKey) (*store.ClientFacts, error) {
	w.last = store.UrgencyOf(ctx)
	return w.Store.ClientFacts(ctx, k)
}

// Revocation and introspection go before the issuing of tokens.
func TestUrgency(t *testing.T) {
	var w *witness
	r := newRig(t, func(o *oauth.Options) { w = &witness{Store: o.Store}; o.Store = w })
	value := r.issue(r.client, "")
	if w.last != store.UrgencyNormal {
		t.Errorf("token: %d", w.last)
	}
	r.introspect(r.client.basic(), value)
	if w.last != store.UrgencyUrgent {
		t.Errorf("introspection: %d", w.last)
	}
	w.last = 0
	r.revoke(r.client, value, "")
	if w.last != store.UrgencyUrgent {
		t.Errorf("revocation: %d", w.last)
	}
}

// A client that revokes a lot at once keeps two places of what is urgent; other
// clients have theirs.
func TestUrgencyOfManyRevocations(t *testing.T) {
	var w *witness
	r := newRig(t, func(o *oauth.Options) { w = &witness{Store: o.Store}; o.Store = w })
	other := r.application("other", nil)
	var values []string
	for range 5 {
		values = append(values, r.issue(r.client, ""))
	}
	others := r.issue(other, "")
	w.begun, w.end = make(chan store.Urgency), make(chan struct{})
	var group sync.WaitGroup
	begin := func(c credentials, value string, want store.Urgency) {
		t.Helper()
		group.Go(func() { r.revoke(c, value, "") })
		if got := <-w.begun; got != want {
			t.Errorf("urgency %d, want %d", got, want)
		}
	}
	begin(r.client, values[0], store.UrgencyUrgent)
	begin(r.client, values[1], store.UrgencyUrgent)
	begin(r.client, values[2], store.UrgencyNormal)
	begin(r.client, values[3], store.UrgencyNormal)
	begin(other, others, store.UrgencyUrgent)
	close(w.end)
	group.Wait()
	begin(r.client, values[4], store.UrgencyUrgent)
	group.Wait()
}
