package envoy

// AuthzMetadata is the namespace of the dynamic metadata that authz answers
// with; Envoy does not let it be changed.
const AuthzMetadata = "envoy.filters.http.ext_authz"

// Keys of the dynamic metadata. All values are non-empty strings: others are
// ignored by rate limits. MetaReason is on every answer that is not OK and
// never on an OK: by its absence Envoy's local_reply_config recognises a reply
// that authz did not make.
const (
	MetaApplication   = "app"
	MetaApplicationID = "app_id"
	MetaConsumerKey   = "consumer_key"
	MetaKeyType       = "key_type"
	MetaSubscription  = "sub"
	MetaSubscriber    = "subscriber"
	MetaUser          = "user"
	MetaOrganization  = "org"
	MetaAPI           = "api"
	MetaAPIVersion    = "api_version"
	MetaTier          = "tier"
	MetaScopes        = "scopes"
	MetaReason        = "reason"
)

// RouteMetadata is the namespace of the metadata of a route, and RouteAPI its
// key for the API id (access log).
const (
	RouteMetadata = "tollgate"
	RouteAPI      = "api_id"
)

// What the listener's usage log carries beside Envoy's own fields, as custom
// tags: it has no room for headers or paths.
const (
	UsageLog  = "tollgate.usage" // name of the log
	TagAPI    = "api_id"
	TagMethod = "method"
	TagStatus = "status" // HTTP status of the response, decimal; 0 = there was none
)

// The endpoint subsets of an API's cluster: endpoint metadata
// envoy.lb {env: production|sandbox}, chosen by HeaderEnv.
const (
	LBMetadata    = "envoy.lb"
	LBEnv         = "env"
	EnvProduction = "production"
	EnvSandbox    = "sandbox"
	EnvNone       = "none"
)
