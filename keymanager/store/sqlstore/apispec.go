package sqlstore

import (
	"time"

	"tollgate/keymanager"
)

// apiSpec is the part of an API that is stored as one document. Its names are
// those of the database, not of Go: a field renamed in package keymanager must
// not change what is stored.
type apiSpec struct {
	Hosts      []string                    `json:"hosts,omitempty"`
	Protocol   keymanager.Protocol         `json:"protocol"`
	TimeoutMS  int64                       `json:"timeout_ms"`
	Duration   int64                       `json:"max_duration_ms,omitempty"`
	Idle       int64                       `json:"idle_timeout_ms,omitempty"`
	Production []string                    `json:"production,omitempty"`
	Sandbox    []string                    `json:"sandbox,omitempty"`
	Resources  []resourceSpec              `json:"resources,omitempty"`
	Security   []keymanager.SecurityScheme `json:"security,omitempty"`
	Tiers      []keymanager.TierName       `json:"tiers,omitempty"`
	CORS       *corsSpec                   `json:"cors,omitempty"`
	Labels     []string                    `json:"labels,omitempty"`
	Cache      keymanager.CacheMode        `json:"cache,omitempty"`
	MaxStaleMS *int64                      `json:"max_stale_ms,omitempty"`
	Backend    *backendSpec                `json:"backend,omitempty"`
}

type resourceSpec struct {
	Method   string              `json:"method"`
	Path     string              `json:"path"`
	AuthType keymanager.AuthType `json:"auth_type"`
	Scopes   []keymanager.Scope  `json:"scopes,omitempty"`
	Tier     keymanager.TierName `json:"tier,omitempty"`
}

type corsSpec struct {
	AllowOrigins     []string `json:"allow_origins,omitempty"`
	AllowMethods     []string `json:"allow_methods,omitempty"`
	AllowHeaders     []string `json:"allow_headers,omitempty"`
	ExposeHeaders    []string `json:"expose_headers,omitempty"`
	MaxAgeMS         int64    `json:"max_age_ms,omitempty"`
	AllowCredentials bool     `json:"allow_credentials,omitempty"`
}

func specOf(a *keymanager.API) apiSpec {
	s := apiSpec{Hosts: a.Hosts, Protocol: a.Protocol, TimeoutMS: a.Timeout.Milliseconds(), Production: a.Production,
		Duration: a.MaxDuration.Milliseconds(), Idle: a.IdleTimeout.Milliseconds(),
		Sandbox: a.Sandbox, Security: a.Security, Tiers: a.Tiers, Labels: a.Labels, Cache: a.Cache,
		Backend: backendSpecOf(&a.Backend)}
	if a.MaxStale != nil {
		ms := a.MaxStale.Milliseconds()
		s.MaxStaleMS = &ms
	}
	for _, r := range a.Resources {
		s.Resources = append(s.Resources, resourceSpec(r))
	}
	if c := a.CORS; c != nil {
		s.CORS = &corsSpec{AllowOrigins: c.AllowOrigins, AllowMethods: c.AllowMethods, AllowHeaders: c.AllowHeaders,
			ExposeHeaders: c.ExposeHeaders, MaxAgeMS: c.MaxAge.Milliseconds(), AllowCredentials: c.AllowCredentials}
	}
	return s
}

func (s *apiSpec) fill(a *keymanager.API) {
	a.Hosts, a.Protocol, a.Timeout = s.Hosts, s.Protocol, span(s.TimeoutMS)
	a.MaxDuration, a.IdleTimeout, a.MaxStale = span(s.Duration), span(s.Idle), nil
	if s.MaxStaleMS != nil {
		stale := span(*s.MaxStaleMS)
		a.MaxStale = &stale
	}
	a.Backend = s.Backend.backend()
	a.Production, a.Sandbox, a.Security, a.Tiers = s.Production, s.Sandbox, s.Security, s.Tiers
	a.Labels, a.Cache = s.Labels, s.Cache
	a.Resources, a.CORS = nil, nil
	for _, r := range s.Resources {
		a.Resources = append(a.Resources, keymanager.Resource(r))
	}
	if c := s.CORS; c != nil {
		a.CORS = &keymanager.CORS{AllowOrigins: c.AllowOrigins, AllowMethods: c.AllowMethods, AllowHeaders: c.AllowHeaders,
			ExposeHeaders: c.ExposeHeaders, MaxAge: span(c.MaxAgeMS), AllowCredentials: c.AllowCredentials}
	}
}

// span reads milliseconds.
func span(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
