package keymanager

import (
	"context"
	"net/netip"
	"time"
)

// CredentialKind is the kind of a credential. The zero value is none.
type CredentialKind uint8

// The kinds of credential.
const (
	NoCredential CredentialKind = iota
	AccessToken                 // opaque access token
	APIKeyCredential
)

// Credential is what a caller presented. Value is secret: it has no place in
// a log, an error or a metric.
type Credential struct {
	Kind  CredentialKind
	Value string
}

// String keeps the value out of logs.
func (c Credential) String() string { return "credential(***)" }

// GoString keeps the value out of logs.
func (c Credential) GoString() string { return c.String() }

// Query asks a Validator about one credential and one API.
type Query struct {
	Credential Credential
	API        APIID
	// Since asks for facts that are not older: a cache takes a verdict whose
	// Head has not reached Since for a miss. Zero takes any. A Validator that
	// reads the facts anew for every call need not look at it.
	Since Position
}

// Validator answers: may this credential call this API, and as whom?
type Validator interface {
	// Validate returns the facts about q. A credential that is unknown,
	// expired or revoked, an application that may not be used, or a missing
	// subscription is a Verdict, not an error. An error means that the facts
	// could not be read: the caller answers 503 and remembers nothing.
	// The Verdict is shared and must not be changed.
	Validate(ctx context.Context, q Query) (*Verdict, error)
}

// Reason is what the stored facts say of a credential, apart from what is
// decided on each request (expiry, scopes, subscription state, restrictions,
// key type).
type Reason uint8

// The reasons of a Verdict. The zero value is not known, and refuses.
const (
	ReasonUnknown          Reason = iota // not decided: 503
	ReasonActive                         // the credential is live; see the facts
	ReasonNoSuchCredential               // not ours, malformed, or nothing stored under it
	ReasonExpired                        // ours, known, expired
	ReasonRevoked
	ReasonApplicationInactive // the application is not approved
	ReasonUserInactive        // its owner, or the token's user, is disabled
)

// Verdict is the answer of a Validator: facts and the head of the log read
// before them, never a decision. It is immutable and may be cached until
// ExpiresAt or until Revocations make it stale.
type Verdict struct {
	Reason    Reason
	Kind      CredentialKind
	TokenID   TokenID // jti, or the id of the API key
	Family    TokenID // refresh family; zero = none
	IssuedAt  time.Time
	ExpiresAt time.Time // zero = never
	Head      Position  // of the log, read before the facts
	// Grant is nil where nothing is stored under the credential. Its content
	// is the same for all tokens of one application, API and scope set, so a
	// cache may share it.
	Grant *Grant
}

// Grant is the part of a Verdict that many credentials share.
type Grant struct {
	Organization OrganizationID
	Application  GrantApplication
	ConsumerKey  ConsumerKey
	KeyType      KeyType
	Subscriber   string // DOMAIN/user of the application's owner
	User         string // DOMAIN/user whom the credential stands for
	UserID       UserID
	UserStore    string
	UserType     UserType
	Scopes       []Scope
	Subscription *GrantSubscription // nil = not subscribed to the API
	Networks     []netip.Prefix     // API keys: where it may be used from
	Referers     []string
}

// GrantApplication is the application of a Grant.
type GrantApplication struct {
	ID         ApplicationID
	Name       string
	Tier       TierName
	Attributes map[string]string
}

// GrantSubscription is the subscription of a Grant's application to the API.
type GrantSubscription struct {
	ID    SubscriptionID
	State SubscriptionState
	Tier  TierName
}
