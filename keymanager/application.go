package keymanager

import (
	"net/netip"
	"time"
)

// ApplicationStatus says whether an application may be used. The zero value
// may not.
type ApplicationStatus string

// The states of an application.
const (
	ApplicationCreated  ApplicationStatus = "CREATED" // waits for approval
	ApplicationApproved ApplicationStatus = "APPROVED"
	ApplicationRejected ApplicationStatus = "REJECTED"
)

// TokenType is the kind of access token that an application gets.
type TokenType string

// OpaqueToken is a reference token that only the key manager can read.
const OpaqueToken TokenType = "OAUTH"

// Application is what subscribes to APIs. Its keys (consumer key and secrets,
// API keys) are the credentials of its callers.
type Application struct {
	ID           ApplicationID
	Organization OrganizationID
	Name         string // unique in the organization
	Owner        UserID
	Tier         TierName
	TokenType    TokenType
	Attributes   map[string]string
	Status       ApplicationStatus
	// Scopes are those of the management plane (tollgate:*) that an
	// administrator gave it. Scopes of APIs come from its subscriptions.
	Scopes []Scope
	// BuiltIn marks the application that the key manager created for itself; it
	// cannot be changed or deleted through the management API.
	BuiltIn bool
	Meta
}

// Client is one key of an application: an OAuth 2.0 client whose consumer key
// is its client_id. An application has at most one for each key type.
type Client struct {
	ConsumerKey   ConsumerKey
	ApplicationID ApplicationID
	KeyType       KeyType
	GrantTypes    []string      // RFC 7591 section 2
	AuthMethod    string        // token_endpoint_auth_method; "" allows basic and post
	TokenLifetime time.Duration // 0 = the key manager's default
	CreatedAt     time.Time
}

// Client authentication methods and grants (RFC 7591 section 2).
const (
	AuthMethodBasic        = "client_secret_basic"
	AuthMethodPost         = "client_secret_post"
	GrantClientCredentials = "client_credentials"
)

// Digest is a keyed digest of a secret (HMAC-SHA256) and the id of the pepper
// that keyed it. Nothing else of a secret is stored.
type Digest struct {
	PepperID uint8
	Sum      [32]byte
}

// ClientSecret is one of several live secrets of a consumer key.
type ClientSecret struct {
	ID          SecretID
	ConsumerKey ConsumerKey
	Digest      Digest
	Last4       string // to recognise it by
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero = never
}

// APIKey is a long-lived credential of an application. The key itself is shown
// once. Networks and Referers restrict its use: where both are set, both hold.
type APIKey struct {
	ID            TokenID
	ApplicationID ApplicationID
	Name          string // unique in the application
	KeyType       KeyType
	Digest        Digest
	Last4         string
	Networks      []netip.Prefix
	Referers      []string // "*" matches any run of characters
	CreatedAt     time.Time
	ExpiresAt     time.Time // zero = never
	RevokedAt     time.Time // zero = live
}

// Token is an access token as it is stored: never the token itself.
type Token struct {
	ID            TokenID // jti
	Digest        Digest
	ConsumerKey   ConsumerKey
	ApplicationID ApplicationID
	KeyType       KeyType
	User          UserID // the application's owner for an application token
	UserType      UserType
	Scopes        []Scope
	IssuedAt      time.Time
	ExpiresAt     time.Time
	RevokedAt     time.Time // zero = live
}
