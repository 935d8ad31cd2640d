package keymanagertest

import (
	"testing"
	"time"

	"tollgate/keymanager"
)

// Subject is one implementation of the contracts, with the means to change what
// it knows.
type Subject struct {
	Catalog     keymanager.Catalog
	Revocations keymanager.Revocations
	Validator   keymanager.Validator
	Gateways    keymanager.Gateways
	World       World
	// Now is the clock of the key manager.
	Now func() time.Time
}

// World changes what a key manager knows, as management does. A method that
// writes returns the position of its event.
type World interface {
	// PutAPI publishes an API, new or changed, in the state that it has.
	PutAPI(t testing.TB, a *keymanager.API) keymanager.Position
	DeleteAPI(t testing.TB, id keymanager.APIID) keymanager.Position
	PutTier(t testing.TB, v *keymanager.Tier) keymanager.Position
	DeleteTier(t testing.TB, ref keymanager.TierRef) keymanager.Position
	Kill(t testing.TB, d keymanager.Dead) keymanager.Position
	Stale(t testing.TB, s keymanager.Stale) keymanager.Position
	// PruneAll removes every event from the log.
	PruneAll(t testing.TB)
	// NewEpoch starts another line of history.
	NewEpoch(t testing.TB)
	Head(t testing.TB) keymanager.Position
	// Issue makes a credential with these facts.
	Issue(t testing.TB, f Facts) keymanager.Credential
	// States returns what gateways have reported.
	States(t testing.TB) []keymanager.GatewayState
}

// Facts describe a credential for World.Issue. The zero value with a Kind, a
// KeyType and an API is one that is live and subscribed.
type Facts struct {
	Kind         keymanager.CredentialKind
	KeyType      keymanager.KeyType
	API          keymanager.APIID // subscribed to, and published; "" = no subscription
	State        keymanager.SubscriptionState
	Application  keymanager.ApplicationStatus
	Owner        keymanager.UserStatus
	Scopes       []keymanager.Scope // of an access token
	Networks     []string           // of an API key
	Referers     []string
	Expired      bool
	Revoked      bool
	NeverExpires bool // of an API key
}

// Organization owns all that the table writes. World knows it, with the default
// tiers.
const Organization keymanager.OrganizationID = "acme"

// Run runs the table of the contracts. fresh returns a new key manager that
// knows nothing but Organization; it ends with the test.
func Run(t *testing.T, fresh func(t *testing.T) *Subject) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"Catalog", catalogCases}, {"Revocations", revocationCases}, {"Validator", validatorCases}, {"Gateways", gatewayCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, tc := range group.cases {
				t.Run(tc.name, func(t *testing.T) { tc.run(t, fresh(t)) })
			}
		})
	}
}

type testCase struct {
	name string
	run  func(t *testing.T, s *Subject)
}

// SampleAPI returns an API that every check accepts, at a context of its own.
func SampleAPI(id keymanager.APIID) *keymanager.API {
	return &keymanager.API{
		ID: id, Organization: Organization, Name: "API " + string(id), Context: "/" + string(id), Version: "1.0.0",
		Hosts: []string{"localhost"}, Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout,
		Production: []string{"http://127.0.0.1:9001"}, Sandbox: []string{"http://127.0.0.1:9002"},
		Resources: []keymanager.Resource{
			{Method: "GET", Path: "/items/{id}", AuthType: keymanager.AuthAny},
			{Method: "POST", Path: "/items", AuthType: keymanager.AuthApplication, Scopes: []keymanager.Scope{"items:write"}, Tier: "Gold"},
		},
		Tiers: []keymanager.TierName{"Gold", "Silver"}, State: keymanager.StatePublished,
	}
}
