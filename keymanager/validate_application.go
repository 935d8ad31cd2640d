package keymanager

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"time"
)

// ValidateApplication checks an application. Its tier must exist and its owner
// too: that is for the store to say. Scopes are those of the management plane;
// who may give them is for the caller to check.
func ValidateApplication(a *Application) []FieldError {
	var p problems
	p.name("/name", a.Name)
	if a.Owner == "" {
		p.add("/owner", "must name a user of the organization")
	}
	p.tier("/tier", a.Tier)
	oneOf(&p, "/tokenType", a.TokenType, OpaqueToken)
	oneOf(&p, "/status", a.Status, ApplicationCreated, ApplicationApproved, ApplicationRejected)
	p.attributes(a.Attributes)
	if p.size("/scopes", len(a.Scopes), maxScopes) {
		for i, s := range a.Scopes {
			oneOf(&p, child("/scopes", i), s, ManagementScopes()...)
		}
		unique(&p, "/scopes", a.Scopes)
	}
	return p
}

// The scopes of the management plane. An application has one only if an
// administrator gave it.
const (
	ScopeAdmin      Scope = ManagementScopePrefix + "admin"
	ScopePublish    Scope = ManagementScopePrefix + "publish"
	ScopeSubscribe  Scope = ManagementScopePrefix + "subscribe"
	ScopeIntrospect Scope = ManagementScopePrefix + "introspect"
	// ScopeValidate lets its holder ask whether a credential of its organization
	// may call an API, as gateways do.
	ScopeValidate Scope = ManagementScopePrefix + "validate"
)

// ManagementScopes returns the scopes of the management plane.
func ManagementScopes() []Scope {
	return []Scope{ScopeAdmin, ScopePublish, ScopeSubscribe, ScopeIntrospect, ScopeValidate}
}

// attributes are checked in order of name, so that the answer is always the
// same.
func (p *problems) attributes(m map[string]string) {
	if !p.size("/attributes", len(m), maxAttributes) {
		return
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		at := child("/attributes", strings.ToValidUTF8(name, "\uFFFD"))
		if !isVariable(name) {
			p.add(at, "must have a name of 1 to %d letters, digits and any of \"_-.\", and start with a letter, a digit or \"_\"", maxLabel)
		}
		p.text(at, m[name], maxAttribute)
	}
}

// MaxTokenLifetime is the longest life of an access token that a client may
// ask for.
const MaxTokenLifetime = 30 * 24 * time.Hour

// ValidateClient checks the key of an application. Its consumer key is made by
// the key manager and not checked.
func ValidateClient(c *Client) []FieldError {
	var p problems
	oneOf(&p, "/keyType", c.KeyType, Production, Sandbox)
	for i, g := range c.GrantTypes {
		oneOf(&p, child("/grantTypes", i), g, GrantClientCredentials)
	}
	unique(&p, "/grantTypes", c.GrantTypes)
	oneOf(&p, "/authMethod", c.AuthMethod, "", AuthMethodBasic, AuthMethodPost)
	if c.TokenLifetime < 0 || c.TokenLifetime > MaxTokenLifetime || c.TokenLifetime%time.Second != 0 {
		p.add("/tokenLifetime", "must be from 1s to %s in whole seconds, or 0 for the default", MaxTokenLifetime)
	}
	return p
}

// ValidateSecret checks a new client secret at the time now.
func ValidateSecret(s *ClientSecret, now time.Time) []FieldError {
	var p problems
	p.expiry(s.ExpiresAt, now)
	return p
}

// ValidateAPIKey checks a new API key at the time now.
func ValidateAPIKey(k *APIKey, now time.Time) []FieldError {
	var p problems
	p.name("/name", k.Name)
	oneOf(&p, "/keyType", k.KeyType, Production, Sandbox)
	p.expiry(k.ExpiresAt, now)
	if p.size("/networks", len(k.Networks), maxNetworks) {
		for i, n := range k.Networks {
			if !n.IsValid() || n.Masked() != n || n.Addr().Is4In6() {
				p.add(child("/networks", i), "%s", networkAllowed)
			}
		}
		unique(&p, "/networks", k.Networks)
	}
	if p.size("/referers", len(k.Referers), maxReferers) {
		for i, r := range k.Referers {
			if !isReferer(r) {
				p.add(child("/referers", i), "must be 1 to %d printable ASCII characters without spaces, in which \"*\" stands for any run of characters, such as https://app.example.com/*", maxReferer)
			}
		}
		unique(&p, "/referers", k.Referers)
	}
	return p
}

// ValidateSubscription checks a subscription. Its application, API and tier
// must exist and fit: that is for the caller and the store to say.
func ValidateSubscription(s *Subscription) []FieldError {
	var p problems
	p.name("/name", s.Name)
	if s.ApplicationID == "" {
		p.add("/application", "must name an application of the organization")
	}
	if s.APIID == "" {
		p.add("/api", "must name an API")
	}
	p.subscriptionTier("/tier", s.Tier)
	oneOf(&p, "/state", s.State, Unblocked, Blocked, ProdOnlyBlocked, OnHold, Rejected, TierUpdatePending)
	switch {
	case s.State == TierUpdatePending:
		p.subscriptionTier("/pendingTier", s.PendingTier)
	case s.PendingTier != "":
		p.add("/pendingTier", "must be empty unless the state is %s", TierUpdatePending)
	}
	return p
}

// expiry refuses a credential that would be born dead.
func (p *problems) expiry(t, now time.Time) {
	if !t.IsZero() && !t.After(now) {
		p.add("/expiresAt", "must be in the future; leave it out for no expiry")
	}
}

const networkAllowed = "must be an IPv4 or IPv6 address or network in CIDR notation without host bits, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"

// ParseNetwork reads an address ("192.0.2.7", which is the network of it
// alone) or a network in CIDR notation without host bits.
func ParseNetwork(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		n, err := netip.ParsePrefix(s)
		if err != nil || n.Masked() != n || n.Addr().Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%s", networkAllowed)
		}
		return n, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s", networkAllowed)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// ParseNetworks reads a list of networks, whose pointer is path. What it
// cannot read is left out and reported.
func ParseNetworks(path string, list []string) ([]netip.Prefix, []FieldError) {
	var p problems
	if !p.size(path, len(list), maxNetworks) {
		return nil, p
	}
	var out []netip.Prefix
	for i, s := range list {
		n, err := ParseNetwork(s)
		if err != nil {
			p.add(child(path, i), "%s", networkAllowed)
			continue
		}
		out = append(out, n)
	}
	return out, p
}

func isReferer(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return 0 < len(s) && len(s) <= maxReferer
}
