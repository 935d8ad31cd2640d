package keymanagertest

import (
	"context"
	"time"

	"tollgate/keymanager"
)

// verdictKey names a verdict. API "" stands for every API.
type verdictKey struct {
	credential keymanager.Credential
	api        keymanager.APIID
}

type validatorState struct {
	verdicts map[verdictKey]*keymanager.Verdict
	instead  func(context.Context, keymanager.Query) (*keymanager.Verdict, error)
	calls    int
	active   int
	most     int
}

// SetVerdict stores the answer for a credential and an API; api "" stands for
// every API that has no answer of its own. Head is set when it is asked for.
// A nil v forgets the answer.
func (k *KeyManager) SetVerdict(c keymanager.Credential, api keymanager.APIID, v *keymanager.Verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v == nil {
		delete(k.validator.verdicts, verdictKey{c, api})
		return
	}
	stored := *v
	k.validator.verdicts[verdictKey{c, api}] = &stored
}

// OnValidate makes f answer instead of the stored verdicts: to fail, to hang,
// to wait. nil takes it back. f is called without a lock.
func (k *KeyManager) OnValidate(f func(context.Context, keymanager.Query) (*keymanager.Verdict, error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.validator.instead = f
}

// Validations returns how often Validate was called, and how many calls were
// under way at once at most.
func (k *KeyManager) Validations() (calls, mostAtOnce int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.validator.calls, k.validator.most
}

// Validate implements keymanager.Validator. A credential that it does not know
// has the reason ReasonNoSuchCredential.
func (k *KeyManager) Validate(ctx context.Context, q keymanager.Query) (*keymanager.Verdict, error) {
	k.mu.Lock()
	v := &k.validator
	v.calls++
	v.active++
	v.most = max(v.most, v.active)
	instead, down := v.instead, k.down
	head := k.headLocked()
	stored := v.verdicts[verdictKey{q.Credential, q.API}]
	if stored == nil {
		stored = v.verdicts[verdictKey{q.Credential, ""}]
	}
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		v.active--
		k.mu.Unlock()
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if down != nil {
		return nil, down
	}
	if instead != nil {
		return instead(ctx, q)
	}
	if stored == nil {
		return &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential, Kind: q.Credential.Kind, Head: head}, nil
	}
	answer := *stored
	answer.Head = head
	return &answer, nil
}

// ActiveVerdict returns the verdict of a live access token of a subscribed
// production application, for tests to change. Id makes its token unique.
func ActiveVerdict(id byte, issued time.Time) *keymanager.Verdict {
	return &keymanager.Verdict{
		Reason:    keymanager.ReasonActive,
		Kind:      keymanager.AccessToken,
		TokenID:   keymanager.TokenID{id},
		IssuedAt:  issued,
		ExpiresAt: issued.Add(time.Hour),
		Grant: &keymanager.Grant{
			Organization: "acme",
			Application: keymanager.GrantApplication{
				ID: "app-1", Name: "Web shop", Tier: "Gold", Attributes: map[string]string{"cost_center": "42"},
			},
			ConsumerKey:  "consumer-1",
			KeyType:      keymanager.Production,
			Subscriber:   "PRIMARY/jane",
			User:         "PRIMARY/jane",
			UserID:       "user-1",
			UserStore:    keymanager.PrimaryUserStore,
			UserType:     keymanager.UserTypeApplication,
			Scopes:       []keymanager.Scope{"pets:read"},
			Subscription: &keymanager.GrantSubscription{ID: "sub-1", State: keymanager.Unblocked, Tier: "Silver"},
		},
	}
}
