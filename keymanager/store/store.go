// Package store is the contract of the key manager's system of record: one
// small interface for each noun, and Store, which is all of them with
// transactions. Package storetest holds the suite that every implementation
// passes.
//
// Errors. A missing object is keymanager.KindNotFound; a taken name or key, or
// an object that others still refer to, is KindConflict; a revision that does
// not match is KindPrecondition; a database that cannot be reached, is busy or
// too slow is KindUnavailable. Anything else is internal. No error holds a
// value of a secret.
//
// Writes of managed objects take the expected Meta.Revision in the object: 0
// skips the check. They set Meta on the object passed in, and an API's Position
// once the transaction is committed; a transaction that is rolled back leaves
// the object as it was. Times are kept to the millisecond.
//
// Events. Every write method appends the log events that gateways need, in the
// same transaction, so that no caller can forget one; a write outside of InTx
// has a transaction of its own.
//
//	write                                    events
//	API created, updated, deleted            API
//	tier created, updated, deleted           Tier
//	organization deleted                     Tier for each of its tiers
//	user updated                             Stale User, and Stale Application for each that he owns
//	user deleted                             Stale User
//	application updated                      Stale Application
//	application deleted                      Dead ConsumerKey for each client, Dead TokenID for each
//	                                         API key, Stale Application
//	client updated                           Stale Application
//	client deleted                           Dead ConsumerKey, Stale Application
//	subscription created, updated, deleted   Stale Application
//	token revoked, API key revoked           Dead TokenID (only by the first revocation)
//
// A Dead TokenID expires with the credential; a Dead ConsumerKey names as
// NotBefore the time of the deletion, and expires with the last of its tokens,
// but an hour later at the earliest. All else appends nothing: no gateway can
// know yet what is created, an issued token least of all.
package store

import (
	"context"
	"time"

	"tollgate/keymanager"
)

// Page asks for part of a list, in order of name. Limit 0 is DefaultLimit.
type Page struct {
	Offset int
	Limit  int
}

// Limits of a Page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Organizations keeps organizations.
type Organizations interface {
	CreateOrganization(ctx context.Context, o *keymanager.Organization) error
	UpdateOrganization(ctx context.Context, o *keymanager.Organization) error
	// DeleteOrganization removes its tiers too; it refuses (KindConflict) while
	// there are users, applications or APIs.
	DeleteOrganization(ctx context.Context, id keymanager.OrganizationID) error
	Organization(ctx context.Context, id keymanager.OrganizationID) (*keymanager.Organization, error)
	Organizations(ctx context.Context, p Page) ([]keymanager.Organization, int, error)
}

// Users keeps users. List methods return the number of all objects beside the
// page.
type Users interface {
	CreateUser(ctx context.Context, u *keymanager.User) error
	UpdateUser(ctx context.Context, u *keymanager.User) error
	// DeleteUser refuses (KindConflict) while he owns an application.
	DeleteUser(ctx context.Context, id keymanager.UserID) error
	User(ctx context.Context, id keymanager.UserID) (*keymanager.User, error)
	// UserByName finds a user by domain and name.
	UserByName(ctx context.Context, org keymanager.OrganizationID, domain, name string) (*keymanager.User, error)
	Users(ctx context.Context, org keymanager.OrganizationID, p Page) ([]keymanager.User, int, error)
}

// Tiers keeps throttling tiers.
type Tiers interface {
	CreateTier(ctx context.Context, t *keymanager.Tier) error
	UpdateTier(ctx context.Context, t *keymanager.Tier) error
	// DeleteTier refuses (KindConflict) while an application, API or
	// subscription names the tier.
	DeleteTier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) error
	Tier(ctx context.Context, org keymanager.OrganizationID, name keymanager.TierName) (*keymanager.Tier, error)
	Tiers(ctx context.Context, org keymanager.OrganizationID, p Page) ([]keymanager.Tier, int, error)
	// AllTiers calls fn for each tier of every organization.
	AllTiers(ctx context.Context, fn func(*keymanager.Tier) error) error
}

// APIs keeps APIs.
type APIs interface {
	// CreateAPI refuses (KindConflict, naming what it clashes with) an API
	// whose (organization, name, version) is taken, whose (host, base path) is
	// taken in any organization (no host = every host; hosts have no case), or
	// whose context differs from that of another API only in case. The base
	// path is context/version, for gRPC the context alone. It may not lie
	// below or above that of another organization's API on a common host: the
	// longer path would take the other's calls.
	CreateAPI(ctx context.Context, a *keymanager.API) error
	UpdateAPI(ctx context.Context, a *keymanager.API) error
	// DeleteAPI refuses (KindConflict) while a subscription names the API.
	DeleteAPI(ctx context.Context, id keymanager.APIID) error
	API(ctx context.Context, id keymanager.APIID) (*keymanager.API, error)
	APIByName(ctx context.Context, org keymanager.OrganizationID, name, version string) (*keymanager.API, error)
	APIs(ctx context.Context, org keymanager.OrganizationID, p Page) ([]keymanager.API, int, error)
	// AllAPIs calls fn for each API of every organization. It is no snapshot:
	// an API that changes meanwhile is seen before or after the change, and
	// the log tells of it. One that cannot be decoded is logged and left out.
	AllAPIs(ctx context.Context, fn func(*keymanager.API) error) error
}

// Applications keeps applications and their OAuth clients.
type Applications interface {
	CreateApplication(ctx context.Context, a *keymanager.Application) error
	UpdateApplication(ctx context.Context, a *keymanager.Application) error
	// DeleteApplication removes its clients, secrets, API keys, tokens and
	// subscriptions too. Of very many tokens some may be left; without their
	// client nothing finds them any more.
	DeleteApplication(ctx context.Context, id keymanager.ApplicationID) error
	Application(ctx context.Context, id keymanager.ApplicationID) (*keymanager.Application, error)
	ApplicationByName(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.Application, error)
	Applications(ctx context.Context, org keymanager.OrganizationID, p Page) ([]keymanager.Application, int, error)

	CreateClient(ctx context.Context, c *keymanager.Client) error
	// UpdateClient changes grants, authentication and token lifetime.
	UpdateClient(ctx context.Context, c *keymanager.Client) error
	DeleteClient(ctx context.Context, k keymanager.ConsumerKey) error
	Clients(ctx context.Context, app keymanager.ApplicationID) ([]keymanager.Client, error)
	// ClientFacts reads all that the OAuth endpoints need to know of a client,
	// in one statement. KindNotFound when there is no such consumer key.
	ClientFacts(ctx context.Context, k keymanager.ConsumerKey) (*ClientFacts, error)

	CreateSecret(ctx context.Context, s *keymanager.ClientSecret) error
	DeleteSecret(ctx context.Context, k keymanager.ConsumerKey, id keymanager.SecretID) error
	Secrets(ctx context.Context, k keymanager.ConsumerKey) ([]keymanager.ClientSecret, error)
}

// ClientFacts is what the OAuth endpoints know of a client.
type ClientFacts struct {
	Client      keymanager.Client
	Application keymanager.Application
	Owner       keymanager.User
	Secrets     []keymanager.ClientSecret // also expired ones
	// APIScopes are the scopes that resources of the APIs name to which the
	// application is subscribed in a state that may be called (UNBLOCKED,
	// PROD_ONLY_BLOCKED, TIER_UPDATE_PENDING; BLOCKED counts too, since it may
	// be unblocked within the life of a token).
	APIScopes []keymanager.Scope
}

// APIKeys keeps API keys.
type APIKeys interface {
	CreateAPIKey(ctx context.Context, k *keymanager.APIKey) error
	// RevokeAPIKey sets RevokedAt once; a key revoked before is left as it is.
	RevokeAPIKey(ctx context.Context, id keymanager.TokenID, at time.Time) error
	APIKey(ctx context.Context, id keymanager.TokenID) (*keymanager.APIKey, error)
	APIKeys(ctx context.Context, app keymanager.ApplicationID, p Page) ([]keymanager.APIKey, int, error)
}

// Subscriptions keeps subscriptions.
type Subscriptions interface {
	CreateSubscription(ctx context.Context, s *keymanager.Subscription) error
	// UpdateSubscription changes name, tiers and state.
	UpdateSubscription(ctx context.Context, s *keymanager.Subscription) error
	DeleteSubscription(ctx context.Context, id keymanager.SubscriptionID) error
	Subscription(ctx context.Context, id keymanager.SubscriptionID) (*keymanager.Subscription, error)
	SubscriptionByName(ctx context.Context, org keymanager.OrganizationID, name string) (*keymanager.Subscription, error)
	Subscriptions(ctx context.Context, org keymanager.OrganizationID, f SubscriptionFilter, p Page) ([]keymanager.Subscription, int, error)
}

// SubscriptionFilter narrows a list; zero fields do not.
type SubscriptionFilter struct {
	Application keymanager.ApplicationID
	API         keymanager.APIID
}

// Tokens keeps access tokens.
type Tokens interface {
	CreateToken(ctx context.Context, t *keymanager.Token) error
	// TokenByDigest does not find a token whose client is deleted.
	TokenByDigest(ctx context.Context, d keymanager.Digest) (*keymanager.Token, error)
	// RevokeToken sets RevokedAt once and reports whether it did: false means
	// that it was revoked before. KindNotFound when there is no such token.
	RevokeToken(ctx context.Context, id keymanager.TokenID, at time.Time) (bool, error)
	// DeleteExpiredTokens removes at most limit tokens that expired before t.
	// Several may do it at once: each leaves alone what another has begun to
	// remove.
	DeleteExpiredTokens(ctx context.Context, t time.Time, limit int) (int, error)
}

// Facts is what is stored about one credential and one API, together with the
// head of the log of the same snapshot of the database. The scopes of Grant are
// those that count: keymanager.HonouredScopes.
type Facts struct {
	Head              keymanager.Position
	TokenID           keymanager.TokenID
	IssuedAt          time.Time
	ExpiresAt         time.Time // zero = never
	RevokedAt         time.Time // zero = live
	ApplicationStatus keymanager.ApplicationStatus
	OwnerStatus       keymanager.UserStatus
	UserStatus        keymanager.UserStatus
	Grant             keymanager.Grant
}

// Validation reads facts for the validator, each in one statement.
type Validation interface {
	// TokenFacts returns nil, with the head, when nothing is stored under d or
	// its client is deleted.
	TokenFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*Facts, keymanager.Position, error)
	// APIKeyFacts does the same for an API key.
	APIKeyFacts(ctx context.Context, d keymanager.Digest, api keymanager.APIID) (*Facts, keymanager.Position, error)
}

// LogEvent is one row of the log. Exactly one of the fields after Seq is set.
type LogEvent struct {
	Seq   uint64 // set by the store
	API   keymanager.APIID
	Tier  *keymanager.TierRef
	Dead  *keymanager.Dead
	Stale *keymanager.Stale
}

// Log is the dense, numbered log of what gateways must know.
type Log interface {
	// Append adds events to the running transaction; outside of one it is an
	// error. The write methods do so themselves. Events are numbered when the
	// transaction commits, as its last statements, so that numbers appear in
	// commit order without gaps. The same event twice in one transaction is
	// one.
	Append(ctx context.Context, e ...LogEvent) error
	// Head returns the position of the last committed event.
	Head(ctx context.Context) (keymanager.Position, error)
	// Oldest returns the number of the oldest event kept (head+1 when none is).
	Oldest(ctx context.Context) (uint64, error)
	// Events returns at most limit events after seq, in order and dense.
	// KindPrecondition says that some of them are pruned: take a snapshot.
	Events(ctx context.Context, after uint64, limit int) ([]LogEvent, error)
	// LiveDead returns the Dead entries that have not expired at t, oldest
	// first.
	LiveDead(ctx context.Context, t time.Time) ([]keymanager.Dead, error)
	// Prune removes events up to and with seq; Dead entries stay for LiveDead
	// until they have expired at t.
	Prune(ctx context.Context, seq uint64, t time.Time) error
	// Wake returns a channel that receives (without blocking the sender) after
	// commits that appended events, also of other processes. It is a hint:
	// wakes can be lost, and callers look again after a while all the same.
	// The channel is closed when ctx ends or the store is closed.
	Wake(ctx context.Context) (<-chan struct{}, error)
}

// GatewayReport is what one key manager tells the others of a gateway part that
// reports to it.
type GatewayReport struct {
	Kind      keymanager.GatewayKind
	ID        string
	Confirmed keymanager.Position
	// Reached is Confirmed, or less if an Envoy that is connected to the part
	// has acknowledged less. It is of the same epoch.
	Reached keymanager.Position
	// Document is the rest of the report; nil says that it has not changed.
	Document *keymanager.GatewayState
	Age      time.Duration // since it was reported
}

// GatewayReports lets the key managers of one database know what gateways
// report to the others. It is news that comes again every second, and may be
// lost.
type GatewayReports interface {
	// ExchangeGatewayReports tells what was reported to this key manager, and
	// returns what others have told that is no older than silence. An older
	// report never replaces a newer one, whoever received it. Documents come
	// with those that changed since the time given (by the clock of the
	// database; zero: with all), which the call returns for the next one. Where
	// no other process can have the database it does nothing.
	ExchangeGatewayReports(ctx context.Context, reporter string, own []GatewayReport, silence time.Duration, since time.Time) ([]GatewayReport, time.Time, error)
}

// AuditEntry is one management write. Before and After are JSON documents
// without secrets; empty means that the object did not exist.
type AuditEntry struct {
	ID           int64
	At           time.Time
	Actor        string // consumer key or user who did it
	Organization keymanager.OrganizationID
	Action       string // create, update, delete, ...
	Kind         string // API, Application, ...
	Name         string
	Before       []byte
	After        []byte
}

// Audit keeps who did what, append-only.
type Audit interface {
	// AddAudit sets the entry's ID, and At if it is zero.
	AddAudit(ctx context.Context, e *AuditEntry) error
	// AuditEntries returns the entries of an organization ("" = of all), newest
	// first.
	AuditEntries(ctx context.Context, org keymanager.OrganizationID, p Page) ([]AuditEntry, int, error)
}

// Store is the system of record.
type Store interface {
	Organizations
	Users
	Tiers
	APIs
	Applications
	APIKeys
	Subscriptions
	Tokens
	Validation
	Log
	GatewayReports
	Audit
	Usage

	// InTx runs fn in one transaction that is committed when fn returns nil
	// and rolled back otherwise (or when fn panics). fn must use the Store it
	// is given, from one goroutine, and may be run again after a serialization
	// failure. After a statement of it has failed (a taken name, say) the
	// transaction cannot be committed any more, even if fn returns nil. It
	// returns the position of the last event appended, or the zero Position.
	// An error of KindUnavailable at commit means that the outcome is unknown.
	// InTx of the Store given to fn joins the transaction.
	InTx(ctx context.Context, fn func(Store) error) (keymanager.Position, error)
	// DatabaseTime reads the clock of the database, which all key managers
	// share.
	DatabaseTime(ctx context.Context) (time.Time, error)
	// Ping reports whether the database answers.
	Ping(ctx context.Context) error
	Close() error
}
