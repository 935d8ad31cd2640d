package oauth_test

import (
	"context"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/store"
)

// witness remembers how urgent a look at a client was.
type witness struct {
	oauth.Store
	last store.Urgency
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
