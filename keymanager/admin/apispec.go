package admin

import (
	"fmt"
	"strings"
	"time"

	"tollgate/keymanager"
)

// APISpec is the JSON of one version of an API.
type APISpec struct {
	Version         string         `json:"version,omitempty" doc:"part of the identity; in a URL it is there already" example:"1.0.0"`
	Context         string         `json:"context" doc:"the path that the API answers at, before the version; of a gRPC API /package.Service" example:"/pets"`
	Hosts           []string       `json:"hosts,omitempty" doc:"names it answers at; none: those of its gateways"`
	Protocol        string         `json:"protocol,omitempty" enum:"http1,http2,grpc,websocket" doc:"default: http1"`
	Timeout         string         `json:"timeout,omitempty" doc:"of a call; 0: a stream; default: 30s, of a websocket 0" example:"30s"`
	MaxDuration     string         `json:"maxDuration,omitempty" doc:"of a stream, 1s to 24h, after which it is cut; default: 1h"`
	IdleTimeout     string         `json:"idleTimeout,omitempty" doc:"the silence after which a stream is cut, 1s to 1h; default: 5m"`
	Production      []string       `json:"production,omitempty" doc:"URLs that PRODUCTION keys reach; all endpoints share one base path"`
	Sandbox         []string       `json:"sandbox,omitempty" doc:"URLs that SANDBOX keys reach"`
	Backend         *BackendSpec   `json:"backend,omitempty" doc:"how gateways deal with these endpoints; left out: defaults"`
	Resources       []ResourceSpec `json:"resources,omitempty" doc:"what can be called; anything else is refused"`
	SecuritySchemes []string       `json:"securitySchemes,omitempty" doc:"oauth2, api_key (header apikey), api_key_query (query parameter apikey), oauth2_websocket (Sec-WebSocket-Protocol: tollgate.bearer, TOKEN); none: oauth2 and api_key"`
	Tiers           []string       `json:"tiers,omitempty" doc:"that a subscription may ask for; default: Unlimited"`
	CORS            *CORSSpec      `json:"cors,omitempty" doc:"left out: no cross-origin calls from browsers"`
	State           string         `json:"state,omitempty" enum:"CREATED,PUBLISHED,DEPRECATED,BLOCKED,RETIRED" doc:"left out: as it is; of a new API: CREATED, which is not routed"`
	Labels          []string       `json:"labels,omitempty" doc:"gateway groups; none: every group"`
	Cache           string         `json:"cache,omitempty" enum:"off" doc:"off: gateways ask the key manager on every call"`
	MaxStale        string         `json:"maxStale,omitempty" doc:"how long a gateway without contact to the key manager goes on to decide, 0 to 10m; left out: as the gateway is configured" example:"30s"`
}

// ResourceSpec is one operation of an API.
type ResourceSpec struct {
	Method   string   `json:"method" doc:"upper case; *: every method" example:"GET"`
	Path     string   `json:"path" doc:"below context and version; {name} is one segment, a final * the rest" example:"/pets/{id}"`
	AuthType string   `json:"authType,omitempty" enum:"Any,Application,Application_User,None" doc:"default: Any"`
	Scopes   []string `json:"scopes,omitempty" doc:"any one of them suffices"`
	Tier     string   `json:"tier,omitempty" doc:"of the resource itself"`
}

// CORSSpec is the cross-origin policy of an API.
type CORSSpec struct {
	AllowOrigins     []string `json:"allowOrigins" doc:"exact origins, or * alone"`
	AllowMethods     []string `json:"allowMethods,omitempty" doc:"upper case, or *"`
	AllowHeaders     []string `json:"allowHeaders,omitempty" doc:"that a browser may send, or *"`
	ExposeHeaders    []string `json:"exposeHeaders,omitempty" doc:"that a page may read, or *"`
	MaxAge           string   `json:"maxAge,omitempty" doc:"how long a browser may remember the answer" example:"10m"`
	AllowCredentials bool     `json:"allowCredentials,omitempty" doc:"cookies and the like; not with *"`
}

// noun fills a with what s says. Times that cannot be read are problems.
func (s *APISpec) noun(a *keymanager.API, c *checks) {
	a.Version, a.Context, a.Hosts = s.Version, s.Context, s.Hosts
	a.Protocol = keymanager.Protocol(s.Protocol)
	if a.Protocol == "" {
		a.Protocol = keymanager.HTTP1
	}
	timeout := keymanager.DefaultTimeout
	if a.Protocol == keymanager.WebSocket {
		timeout = 0
	}
	a.Timeout = duration(c, "/timeout", s.Timeout, timeout)
	a.MaxDuration = duration(c, "/maxDuration", s.MaxDuration, 0)
	a.IdleTimeout = duration(c, "/idleTimeout", s.IdleTimeout, 0)
	a.Production, a.Sandbox, a.Backend = s.Production, s.Sandbox, s.Backend.noun(c)
	for _, r := range s.Resources {
		auth := keymanager.AuthType(r.AuthType)
		if auth == "" {
			auth = keymanager.AuthAny
		}
		a.Resources = append(a.Resources, keymanager.Resource{
			Method: r.Method, Path: r.Path, AuthType: auth,
			Scopes: named[keymanager.Scope](r.Scopes), Tier: keymanager.TierName(r.Tier),
		})
	}
	a.Security = named[keymanager.SecurityScheme](s.SecuritySchemes)
	a.Tiers = named[keymanager.TierName](s.Tiers)
	if len(a.Tiers) == 0 {
		a.Tiers = []keymanager.TierName{keymanager.Unlimited}
	}
	if s.CORS != nil {
		a.CORS = &keymanager.CORS{
			AllowOrigins: s.CORS.AllowOrigins, AllowMethods: s.CORS.AllowMethods, AllowHeaders: s.CORS.AllowHeaders,
			ExposeHeaders: s.CORS.ExposeHeaders, MaxAge: duration(c, "/cors/maxAge", s.CORS.MaxAge, 0),
			AllowCredentials: s.CORS.AllowCredentials,
		}
	}
	a.State = keymanager.LifecycleState(s.State)
	a.Labels, a.Cache = s.Labels, keymanager.CacheMode(s.Cache)
	if s.MaxStale != "" {
		stale := duration(c, "/maxStale", s.MaxStale, 0)
		a.MaxStale = &stale
	}
}

// apiSpec is the inverse of noun.
func apiSpec(a *keymanager.API) *APISpec {
	s := &APISpec{
		Version: a.Version, Context: a.Context, Hosts: texts(a.Hosts), Protocol: string(a.Protocol),
		Timeout: a.Timeout.String(), MaxDuration: unlessZero(a.MaxDuration), IdleTimeout: unlessZero(a.IdleTimeout),
		Production: texts(a.Production), Sandbox: texts(a.Sandbox), Backend: backendSpec(&a.Backend),
		SecuritySchemes: texts(a.Security), Tiers: texts(a.Tiers), State: string(a.State),
		Labels: texts(a.Labels), Cache: string(a.Cache),
	}
	if a.MaxStale != nil {
		s.MaxStale = a.MaxStale.String()
	}
	for _, r := range a.Resources {
		s.Resources = append(s.Resources, ResourceSpec{
			Method: r.Method, Path: r.Path, AuthType: string(r.AuthType), Scopes: texts(r.Scopes), Tier: string(r.Tier),
		})
	}
	if a.CORS != nil {
		s.CORS = &CORSSpec{
			AllowOrigins: texts(a.CORS.AllowOrigins), AllowMethods: texts(a.CORS.AllowMethods), AllowHeaders: texts(a.CORS.AllowHeaders),
			ExposeHeaders: texts(a.CORS.ExposeHeaders), AllowCredentials: a.CORS.AllowCredentials,
		}
		if a.CORS.MaxAge != 0 {
			s.CORS.MaxAge = a.CORS.MaxAge.String()
		}
	}
	return s
}

// duration reads a time such as "30s"; "" is absent, and "0" is none.
func duration(c *checks, at, s string, absent time.Duration) time.Duration {
	if s == "" {
		return absent
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		c.add(at, fmt.Sprintf("must be a number with a unit (ms, s, m, h), such as 30s or 1m30s; not %q", shortened(s)))
		return absent
	}
	return d
}

func shortened(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
