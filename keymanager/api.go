package keymanager

import (
	"strings"
	"time"
)

// Protocol is what an API and its back ends speak.
type Protocol string

// The protocols of an API.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	// WebSocket is a GET of HTTP/1.1 that becomes a connection in both directions
	// (RFC 6455). It is authorized once, at the handshake.
	WebSocket Protocol = "websocket"
)

// LifecycleState is the life-cycle state of an API. The zero value is not
// routed.
type LifecycleState string

// The life-cycle states of an API.
const (
	StateCreated    LifecycleState = "CREATED"
	StatePublished  LifecycleState = "PUBLISHED"
	StateDeprecated LifecycleState = "DEPRECATED" // no new subscriptions
	StateBlocked    LifecycleState = "BLOCKED"    // routed, every call is 503/700700
	StateRetired    LifecycleState = "RETIRED"
)

// AuthType is the authentication level that a resource asks for. The zero
// value is refused.
type AuthType string

// The authentication levels of a resource.
const (
	AuthAny             AuthType = "Any"
	AuthApplication     AuthType = "Application"
	AuthApplicationUser AuthType = "Application_User"
	AuthNone            AuthType = "None"
)

// SecurityScheme is a kind of credential, and where an API takes it from.
type SecurityScheme string

// The security schemes of an API.
const (
	SchemeOAuth2      SecurityScheme = "oauth2"        // Authorization: Bearer
	SchemeAPIKey      SecurityScheme = "api_key"       // header apikey
	SchemeAPIKeyQuery SecurityScheme = "api_key_query" // query parameter apikey
	// SchemeOAuth2WebSocket is for browsers, which set no header of a handshake
	// but this one: Sec-WebSocket-Protocol: tollgate.bearer, TOKEN.
	SchemeOAuth2WebSocket SecurityScheme = "oauth2_websocket"
)

// Resource is one operation of an API: a method and a path template below the
// API's base path ("/items/{id}", "/files/*"). A "*" is the last segment and
// matches the rest, also nothing.
type Resource struct {
	Method   string // upper case; "*" for every allowed method
	Path     string
	AuthType AuthType
	Scopes   []Scope // any one of them suffices; none asks for none
	Tier     TierName
}

// CORS is the cross-origin policy of an API (Fetch standard).
type CORS struct {
	AllowOrigins     []string // exact origins, or "*" alone
	AllowMethods     []string
	AllowHeaders     []string
	ExposeHeaders    []string
	MaxAge           time.Duration
	AllowCredentials bool // never with "*"
}

// CacheMode says whether gateways may cache verdicts for an API.
type CacheMode string

// The cache modes of an API.
const (
	CacheDefault CacheMode = ""
	CacheOff     CacheMode = "off" // every call asks the key manager
)

// DefaultTimeout is the route timeout of an API that names none.
const DefaultTimeout = 30 * time.Second

// Defaults of a stream: an API without time-out.
const (
	DefaultMaxDuration = time.Hour
	DefaultIdleTimeout = 5 * time.Minute
)

// API is one version of an API as it is published.
type API struct {
	ID           APIID
	Organization OrganizationID
	Name         string // (Organization, Name, Version) is unique
	Context      string // "/pets"; for gRPC "/package.Service"
	Version      string // "1.0.0"; not in the path of a gRPC API
	Hosts        []string
	Protocol     Protocol
	Timeout      time.Duration // of a call; 0 = a stream, and every WebSocket is one
	MaxDuration  time.Duration // of a stream (Timeout 0), and of nothing else; 0 = DefaultMaxDuration
	IdleTimeout  time.Duration // the silence that ends a stream; 0 = DefaultIdleTimeout
	Production   []string      // URLs, one base path for all
	Sandbox      []string
	Backend      Backend // how gateways deal with these
	Resources    []Resource
	Security     []SecurityScheme
	Tiers        []TierName // that a subscription may ask for
	CORS         *CORS
	State        LifecycleState
	Labels       []string // gateway groups; empty = every group
	Cache        CacheMode
	// MaxStale is how long a gateway that has lost contact to the key manager
	// goes on to decide for this API from what it knows: 0 to 10 min, where 0
	// is not a moment longer than contact counts as lost. nil = as the gateway
	// is configured.
	MaxStale *time.Duration
	// Position is the number of the log event that published this content: the
	// "rev" of its route at Envoy.
	Position uint64
	Meta
}

// Stream reports whether a call of the API has no end of its own: events, gRPC
// streams, WebSockets.
func (a *API) Stream() bool { return a.Timeout == 0 }

// Routed reports whether Envoy has a route for the API.
func (a *API) Routed() bool {
	switch a.State {
	case StatePublished, StateDeprecated, StateBlocked:
		return true
	default:
		return false
	}
}

// BasePath returns the path below which the API answers: context/version, or
// the context alone for gRPC. It starts with "/" and does not end with one.
func (a *API) BasePath() string {
	if a.Protocol == GRPC {
		return a.Context
	}
	return a.Context + "/" + a.Version
}

// Segment returns the first path segment, without slashes: the unit of change
// at Envoy, shared by all APIs whose contexts start with it.
func (a *API) Segment() string {
	s, _, _ := strings.Cut(strings.TrimPrefix(a.Context, "/"), "/")
	return s
}

// Takes reports whether the API takes credentials of scheme s. An API that
// names no scheme takes access tokens and API keys from headers.
func (a *API) Takes(s SecurityScheme) bool {
	if len(a.Security) == 0 {
		return s == SchemeOAuth2 || s == SchemeAPIKey
	}
	for _, have := range a.Security {
		if have == s {
			return true
		}
	}
	return false
}
