package keymanagertest

import (
	"context"
	"reflect"
	"testing"

	"tollgate/keymanager"
)

var validatorCases = []testCase{
	{"verdicts", func(t *testing.T, s *Subject) {
		s.World.PutAPI(t, SampleAPI("a"))
		token := Facts{Kind: keymanager.AccessToken, KeyType: keymanager.Production, API: "a", Scopes: []keymanager.Scope{"items:write"}}
		key := Facts{Kind: keymanager.APIKeyCredential, KeyType: keymanager.Sandbox, API: "a"}
		with := func(f Facts, change func(*Facts)) Facts { change(&f); return f }
		for _, tt := range []struct {
			name  string
			facts Facts
			want  keymanager.Reason
		}{
			{"access token", token, keymanager.ReasonActive},
			{"sandbox token", with(token, func(f *Facts) { f.KeyType = keymanager.Sandbox }), keymanager.ReasonActive},
			{"API key", key, keymanager.ReasonActive},
			{"API key for ever", with(key, func(f *Facts) { f.NeverExpires = true }), keymanager.ReasonActive},
			{"API key with restrictions", with(key, func(f *Facts) {
				f.Networks, f.Referers = []string{"10.0.0.0/8"}, []string{"https://app.example/*"}
			}), keymanager.ReasonActive},
			{"blocked subscription", with(token, func(f *Facts) { f.State = keymanager.Blocked }), keymanager.ReasonActive},
			{"not subscribed", with(token, func(f *Facts) { f.API = "" }), keymanager.ReasonActive},
			{"expired token", with(token, func(f *Facts) { f.Expired = true }), keymanager.ReasonExpired},
			{"expired key", with(key, func(f *Facts) { f.Expired = true }), keymanager.ReasonExpired},
			{"revoked token", with(token, func(f *Facts) { f.Revoked = true }), keymanager.ReasonRevoked},
			{"revoked key", with(key, func(f *Facts) { f.Revoked = true }), keymanager.ReasonRevoked},
			{"application waits", with(token, func(f *Facts) { f.Application = keymanager.ApplicationCreated }), keymanager.ReasonApplicationInactive},
			{"application rejected", with(key, func(f *Facts) { f.Application = keymanager.ApplicationRejected }), keymanager.ReasonApplicationInactive},
			{"owner disabled", with(token, func(f *Facts) { f.Owner = keymanager.UserDisabled }), keymanager.ReasonUserInactive},
			{"owner of the key disabled", with(key, func(f *Facts) { f.Owner = keymanager.UserDisabled }), keymanager.ReasonUserInactive},
		} {
			t.Run(tt.name, func(t *testing.T) {
				credential := s.World.Issue(t, tt.facts)
				v, err := s.Validator.Validate(t.Context(), keymanager.Query{Credential: credential, API: "a"})
				if err != nil {
					t.Fatal(err)
				}
				if v.Reason != tt.want {
					t.Fatalf("reason is %d, want %d", v.Reason, tt.want)
				}
				checkVerdict(t, v, tt.facts, s.World.Head(t))
			})
		}
	}},
	{"what nobody issued", func(t *testing.T, s *Subject) {
		live := s.World.Issue(t, Facts{Kind: keymanager.AccessToken, KeyType: keymanager.Production})
		for name, c := range map[string]keymanager.Credential{
			"nothing": {}, "empty": {Kind: keymanager.AccessToken}, "random": {Kind: keymanager.AccessToken, Value: "4c27f899"},
			"a token as a key":     {Kind: keymanager.APIKeyCredential, Value: live.Value},
			"with a character off": {Kind: live.Kind, Value: live.Value[:len(live.Value)-1]},
			"with one more":        {Kind: live.Kind, Value: live.Value + "A"},
			"not UTF-8":            {Kind: keymanager.APIKeyCredential, Value: "\xff\x00"},
		} {
			v, err := s.Validator.Validate(t.Context(), keymanager.Query{Credential: c, API: "a"})
			if err != nil || v == nil || v.Reason != keymanager.ReasonNoSuchCredential || v.Grant != nil {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
		}
	}},
	{"an API that does not exist", func(t *testing.T, s *Subject) {
		c := s.World.Issue(t, Facts{Kind: keymanager.AccessToken, KeyType: keymanager.Production})
		v, err := s.Validator.Validate(t.Context(), keymanager.Query{Credential: c, API: "nowhere"})
		if err != nil || v.Reason != keymanager.ReasonActive || v.Grant.Subscription != nil {
			t.Errorf("%+v, %v", v, err)
		}
	}},
	{"the head was read before the facts", func(t *testing.T, s *Subject) {
		c := s.World.Issue(t, Facts{Kind: keymanager.AccessToken, KeyType: keymanager.Production})
		before := s.World.Stale(t, keymanager.Stale{Application: "x"})
		v, err := s.Validator.Validate(t.Context(), keymanager.Query{Credential: c, API: "a", Since: before})
		if err != nil || !v.Head.Reached(before) || !s.World.Head(t).Reached(v.Head) {
			t.Errorf("head %v, want one from %v: %v", v, before, err)
		}
	}},
	{"no time left", func(t *testing.T, s *Subject) {
		c := s.World.Issue(t, Facts{Kind: keymanager.AccessToken, KeyType: keymanager.Production})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if v, err := s.Validator.Validate(ctx, keymanager.Query{Credential: c, API: "a"}); err == nil || v != nil {
			t.Errorf("%+v, %v; want an error", v, err)
		}
	}},
}

// checkVerdict compares what a verdict says beside its reason.
func checkVerdict(t *testing.T, v *keymanager.Verdict, f Facts, head keymanager.Position) {
	t.Helper()
	g := v.Grant
	switch {
	case g == nil:
		t.Fatal("no grant")
	case v.Kind != f.Kind || v.TokenID.IsZero() || v.IssuedAt.IsZero() || v.ExpiresAt.IsZero() != f.NeverExpires || !head.Reached(v.Head):
		t.Errorf("verdict is %+v", v)
	case g.Organization != Organization || g.Application.ID == "" || g.Application.Name == "" || g.Subscriber == "" || g.User == "" || g.UserID == "":
		t.Errorf("grant is %+v", g)
	case g.KeyType != f.KeyType:
		t.Errorf("key type is %q, want %q", g.KeyType, f.KeyType)
	case f.Kind == keymanager.AccessToken && (g.ConsumerKey == "" || !reflect.DeepEqual(g.Scopes, f.Scopes)):
		t.Errorf("consumer key %q, scopes %q, want %q", g.ConsumerKey, g.Scopes, f.Scopes)
	case (g.Subscription == nil) != (f.API == ""):
		t.Errorf("subscription is %+v", g.Subscription)
	case g.Subscription != nil && (g.Subscription.State != f.state() || g.Subscription.Tier == ""):
		t.Errorf("subscription is %+v, want the state %s", g.Subscription, f.state())
	case !reflect.DeepEqual(nonNil(g.Networks), nonNil(mustPrefixes(f.Networks))) || !reflect.DeepEqual(nonNil(g.Referers), nonNil(f.Referers)):
		t.Errorf("networks %v, referers %v", g.Networks, g.Referers)
	}
}

func nonNil[T any](list []T) []T { return append([]T{}, list...) }

func (f Facts) state() keymanager.SubscriptionState {
	if f.State == "" {
		return keymanager.Unblocked
	}
	return f.State
}
