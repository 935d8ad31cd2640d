package rpc

import (
	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

var credentialKinds = newEnum("credential kind", map[keymanager.CredentialKind]pb.CredentialKind{
	keymanager.NoCredential:     pb.CredentialKind_CREDENTIAL_KIND_UNSPECIFIED, // known to nobody: refused
	keymanager.AccessToken:      pb.CredentialKind_CREDENTIAL_KIND_ACCESS_TOKEN,
	keymanager.APIKeyCredential: pb.CredentialKind_CREDENTIAL_KIND_API_KEY,
})

var reasons = newEnum("reason", map[keymanager.Reason]pb.Reason{
	keymanager.ReasonActive:              pb.Reason_REASON_ACTIVE,
	keymanager.ReasonNoSuchCredential:    pb.Reason_REASON_NO_SUCH_CREDENTIAL,
	keymanager.ReasonExpired:             pb.Reason_REASON_EXPIRED,
	keymanager.ReasonRevoked:             pb.Reason_REASON_REVOKED,
	keymanager.ReasonApplicationInactive: pb.Reason_REASON_APPLICATION_INACTIVE,
	keymanager.ReasonUserInactive:        pb.Reason_REASON_USER_INACTIVE,
})

var keyTypes = newEnum("key type", map[keymanager.KeyType]pb.KeyType{
	keymanager.Production: pb.KeyType_KEY_TYPE_PRODUCTION,
	keymanager.Sandbox:    pb.KeyType_KEY_TYPE_SANDBOX,
})

var userTypes = newEnum("user type", map[keymanager.UserType]pb.UserType{
	"":                                 pb.UserType_USER_TYPE_NONE,
	keymanager.UserTypeApplication:     pb.UserType_USER_TYPE_APPLICATION,
	keymanager.UserTypeApplicationUser: pb.UserType_USER_TYPE_APPLICATION_USER,
})

var subscriptionStates = newEnum("subscription state", map[keymanager.SubscriptionState]pb.SubscriptionState{
	keymanager.Unblocked:         pb.SubscriptionState_SUBSCRIPTION_STATE_UNBLOCKED,
	keymanager.Blocked:           pb.SubscriptionState_SUBSCRIPTION_STATE_BLOCKED,
	keymanager.ProdOnlyBlocked:   pb.SubscriptionState_SUBSCRIPTION_STATE_PROD_ONLY_BLOCKED,
	keymanager.OnHold:            pb.SubscriptionState_SUBSCRIPTION_STATE_ON_HOLD,
	keymanager.Rejected:          pb.SubscriptionState_SUBSCRIPTION_STATE_REJECTED,
	keymanager.TierUpdatePending: pb.SubscriptionState_SUBSCRIPTION_STATE_TIER_UPDATE_PENDING,
})

func queryTo(q keymanager.Query) (*pb.ValidateRequest, error) {
	var c converter
	return &pb.ValidateRequest{
		Kind:  write(&c, credentialKinds, q.Credential.Kind),
		Value: []byte(q.Credential.Value),
		Api:   string(q.API),
		Since: positionTo(q.Since),
	}, c.err
}

func queryFrom(m *pb.ValidateRequest) (keymanager.Query, error) {
	var c converter
	return keymanager.Query{
		Credential: keymanager.Credential{Kind: read(&c, credentialKinds, m.GetKind()), Value: string(m.GetValue())},
		API:        keymanager.APIID(m.GetApi()),
		Since:      c.positionFrom(m.GetSince()),
	}, c.err
}

func verdictTo(v *keymanager.Verdict) (*pb.Verdict, error) {
	var c converter
	return &pb.Verdict{
		Reason:    write(&c, reasons, v.Reason),
		Kind:      write(&c, credentialKinds, v.Kind),
		TokenId:   idTo(v.TokenID),
		Family:    idTo(v.Family),
		IssuedAt:  c.timeTo(v.IssuedAt),
		ExpiresAt: c.timeTo(v.ExpiresAt),
		Head:      positionTo(v.Head),
		Grant:     c.grantTo(v.Grant),
	}, c.err
}

// verdictFrom returns a verdict only if every part of m is understood, and an
// active one only with a grant.
func verdictFrom(m *pb.Verdict) (*keymanager.Verdict, error) {
	var c converter
	c.understand(m.GetMustUnderstand())
	v := &keymanager.Verdict{
		Reason:    read(&c, reasons, m.GetReason()),
		Kind:      read(&c, credentialKinds, m.GetKind()),
		TokenID:   c.idFrom(m.GetTokenId()),
		Family:    c.idFrom(m.GetFamily()),
		IssuedAt:  c.timeFrom(m.GetIssuedAt()),
		ExpiresAt: c.timeFrom(m.GetExpiresAt()),
		Head:      c.positionFrom(m.GetHead()),
		Grant:     c.grantFrom(m.GetGrant()),
	}
	if v.Reason == keymanager.ReasonActive && v.Grant == nil {
		c.fail("a verdict is active, and has no grant")
	}
	if c.err != nil {
		return nil, c.err
	}
	return v, nil
}

func (c *converter) grantTo(g *keymanager.Grant) *pb.Grant {
	if g == nil {
		return nil
	}
	m := &pb.Grant{
		Organization: string(g.Organization),
		Application: &pb.GrantApplication{
			Id: string(g.Application.ID), Name: g.Application.Name, Tier: string(g.Application.Tier), Attributes: g.Application.Attributes,
		},
		ConsumerKey: string(g.ConsumerKey),
		KeyType:     write(c, keyTypes, g.KeyType),
		Subscriber:  g.Subscriber,
		User:        g.User,
		UserId:      string(g.UserID),
		UserStore:   g.UserStore,
		UserType:    write(c, userTypes, g.UserType),
		Scopes:      stringsTo(g.Scopes),
		Networks:    each(g.Networks, c.prefixTo),
		Referers:    g.Referers,
	}
	if s := g.Subscription; s != nil {
		m.Subscription = &pb.GrantSubscription{Id: string(s.ID), State: write(c, subscriptionStates, s.State), Tier: string(s.Tier)}
	}
	return m
}

func (c *converter) grantFrom(m *pb.Grant) *keymanager.Grant {
	if m == nil {
		return nil
	}
	a := m.GetApplication()
	g := &keymanager.Grant{
		Organization: keymanager.OrganizationID(m.GetOrganization()),
		Application: keymanager.GrantApplication{
			ID: keymanager.ApplicationID(a.GetId()), Name: a.GetName(), Tier: keymanager.TierName(a.GetTier()),
		},
		ConsumerKey: keymanager.ConsumerKey(m.GetConsumerKey()),
		KeyType:     read(c, keyTypes, m.GetKeyType()),
		Subscriber:  m.GetSubscriber(),
		User:        m.GetUser(),
		UserID:      keymanager.UserID(m.GetUserId()),
		UserStore:   m.GetUserStore(),
		UserType:    read(c, userTypes, m.GetUserType()),
		Scopes:      stringsFrom[keymanager.Scope](m.GetScopes()),
		Networks:    each(m.GetNetworks(), c.prefixFrom),
		Referers:    stringsFrom[string](m.GetReferers()),
	}
	if len(a.GetAttributes()) > 0 {
		g.Application.Attributes = a.GetAttributes()
	}
	if s := m.GetSubscription(); s != nil {
		g.Subscription = &keymanager.GrantSubscription{
			ID: keymanager.SubscriptionID(s.GetId()), State: read(c, subscriptionStates, s.GetState()), Tier: keymanager.TierName(s.GetTier()),
		}
	}
	return g
}
