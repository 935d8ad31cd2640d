package envoy

// MinVersion is the oldest Envoy that the gateway is safe on.
const MinVersion = "1.40.0"

// Context extensions that a route carries to authz in
// CheckRequest.attributes.context_extensions
// (ExtAuthzPerRoute.check_settings.context_extensions).
const (
	ContextAPI     = "api_id" // the API of the matched route
	ContextRev     = "rev"    // log position of the API's last change, decimal
	ContextGateway = "gw"     // gateway group
)

// Names of filters. Per-route configuration is keyed by them, not by type.
const (
	FilterOriginal = "tollgate.original" // keeps host and path for the access log
	FilterAuthz    = "tollgate.authz"
	FilterStrip    = "tollgate.strip"
	FilterEnv      = "tollgate.env"
	FilterCORS     = "envoy.filters.http.cors"
	FilterGRPCWeb  = "envoy.filters.http.grpc_web"
	FilterRouter   = "envoy.filters.http.router"
)

// Names of clusters that do not belong to an API. Cluster names have no dots:
// they break the extraction of tags from statistics.
const (
	ClusterAuthz      = "authz"
	ClusterXDS        = "xds_cluster"
	ClusterKeyManager = "keymanager"
	ClusterAccessLog  = "accesslog" // who takes usage records; only where one is configured
	// ClusterAPIPrefix starts the name of every API's cluster.
	ClusterAPIPrefix = "be/"
)

// Request headers that authz reads from the CheckRequest.
const (
	HeaderAuthorization = "authorization"
	HeaderAPIKey        = "apikey"
	// HeaderClientAddress is the client after xff_num_trusted_hops; the
	// CheckRequest's source.address is the TCP peer.
	HeaderClientAddress = "x-envoy-external-address"
	HeaderRequestID     = "x-request-id"
	HeaderReferer       = "referer"
	HeaderOrigin        = "origin"
	HeaderAccept        = "accept"
	HeaderContentType   = "content-type"
	// HeaderWebSocketProtocol lists subprotocols (RFC 6455 section 11.3.4), in
	// which WebSocketToken announces that an access token comes next.
	HeaderWebSocketProtocol = "sec-websocket-protocol"
	WebSocketToken          = "tollgate.bearer"
	// QueryAPIKey is the query parameter of an API key, by its raw name.
	QueryAPIKey = "apikey"
)

// Request headers that authz sets for the back end, with overwrite. A client's
// copy of anything with HeaderPrefix is removed before any filter runs.
const (
	HeaderPrefix           = "x-tollgate-"
	HeaderApplication      = "x-tollgate-application"
	HeaderApplicationID    = "x-tollgate-application-id"
	HeaderConsumerKey      = "x-tollgate-consumer-key"
	HeaderKeyType          = "x-tollgate-key-type"
	HeaderSubscriber       = "x-tollgate-subscriber"
	HeaderUser             = "x-tollgate-user"
	HeaderAPI              = "x-tollgate-api"
	HeaderAPIVersion       = "x-tollgate-api-version"
	HeaderSubscriptionTier = "x-tollgate-subscription-tier"
	HeaderScopes           = "x-tollgate-scopes"
	// HeaderEnv chooses the endpoint subset (EnvProduction, EnvSandbox); the
	// env filter removes it before the back end.
	HeaderEnv = "x-tollgate-env"
	// HeaderContext is the normalised path, set by Envoy before the choice of
	// the scope; its first segment is the scope key.
	HeaderContext = "x-tollgate-context"
)
