package rpc

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

var protocols = newEnum("protocol", map[keymanager.Protocol]pb.Protocol{
	keymanager.HTTP1:     pb.Protocol_PROTOCOL_HTTP1,
	keymanager.HTTP2:     pb.Protocol_PROTOCOL_HTTP2,
	keymanager.GRPC:      pb.Protocol_PROTOCOL_GRPC,
	keymanager.WebSocket: pb.Protocol_PROTOCOL_WEBSOCKET,
})

var lifecycleStates = newEnum("life-cycle state", map[keymanager.LifecycleState]pb.LifecycleState{
	keymanager.StateCreated:    pb.LifecycleState_LIFECYCLE_STATE_CREATED,
	keymanager.StatePublished:  pb.LifecycleState_LIFECYCLE_STATE_PUBLISHED,
	keymanager.StateDeprecated: pb.LifecycleState_LIFECYCLE_STATE_DEPRECATED,
	keymanager.StateBlocked:    pb.LifecycleState_LIFECYCLE_STATE_BLOCKED,
	keymanager.StateRetired:    pb.LifecycleState_LIFECYCLE_STATE_RETIRED,
})

var authTypes = newEnum("authentication type", map[keymanager.AuthType]pb.AuthType{
	keymanager.AuthAny:             pb.AuthType_AUTH_TYPE_ANY,
	keymanager.AuthApplication:     pb.AuthType_AUTH_TYPE_APPLICATION,
	keymanager.AuthApplicationUser: pb.AuthType_AUTH_TYPE_APPLICATION_USER,
	keymanager.AuthNone:            pb.AuthType_AUTH_TYPE_NONE,
})

var securitySchemes = newEnum("security scheme", map[keymanager.SecurityScheme]pb.SecurityScheme{
	keymanager.SchemeOAuth2:          pb.SecurityScheme_SECURITY_SCHEME_OAUTH2,
	keymanager.SchemeAPIKey:          pb.SecurityScheme_SECURITY_SCHEME_API_KEY,
	keymanager.SchemeAPIKeyQuery:     pb.SecurityScheme_SECURITY_SCHEME_API_KEY_QUERY,
	keymanager.SchemeOAuth2WebSocket: pb.SecurityScheme_SECURITY_SCHEME_OAUTH2_WEBSOCKET,
})

var cacheModes = newEnum("cache mode", map[keymanager.CacheMode]pb.CacheMode{
	keymanager.CacheDefault: pb.CacheMode_CACHE_MODE_DEFAULT,
	keymanager.CacheOff:     pb.CacheMode_CACHE_MODE_OFF,
})

// unwritable is what an API must be understood to say that could not be
// written: nobody does.
const unwritable = "unwritable"

func apiTo(a *keymanager.API) (*pb.API, error) {
	var c converter
	m := &pb.API{
		Id:           string(a.ID),
		Organization: string(a.Organization),
		Name:         a.Name,
		Context:      a.Context,
		Version:      a.Version,
		Hosts:        a.Hosts,
		Protocol:     write(&c, protocols, a.Protocol),
		Timeout:      durationpb.New(a.Timeout),
		MaxDuration:  optionalTo(a.MaxDuration),
		IdleTimeout:  optionalTo(a.IdleTimeout),
		Production:   a.Production,
		Sandbox:      a.Sandbox,
		Backend:      c.backendTo(a.Backend),
		Resources: each(a.Resources, func(r keymanager.Resource) *pb.Resource {
			return &pb.Resource{Method: r.Method, Path: r.Path, AuthType: write(&c, authTypes, r.AuthType), Scopes: stringsTo(r.Scopes), Tier: string(r.Tier)}
		}),
		Security: each(a.Security, func(s keymanager.SecurityScheme) pb.SecurityScheme { return write(&c, securitySchemes, s) }),
		Tiers:    stringsTo(a.Tiers),
		State:    write(&c, lifecycleStates, a.State),
		Labels:   a.Labels,
		Cache:    write(&c, cacheModes, a.Cache),
		Position: a.Position,
		Meta:     c.metaTo(a.Meta),
	}
	if a.MaxStale != nil {
		m.MaxStale = durationpb.New(*a.MaxStale)
	}
	if o := a.CORS; o != nil {
		m.Cors = &pb.CORS{
			AllowOrigins: o.AllowOrigins, AllowMethods: o.AllowMethods, AllowHeaders: o.AllowHeaders, ExposeHeaders: o.ExposeHeaders,
			MaxAge: durationpb.New(o.MaxAge), AllowCredentials: o.AllowCredentials,
		}
	}
	if c.err != nil {
		return &pb.API{Id: m.Id, Organization: m.Organization, Position: m.Position, MustUnderstand: []string{unwritable}}, c.err
	}
	return m, nil
}

// apiFrom returns an API. One that is not understood is returned as one that
// is not routed, of the same id, and with the reason.
func apiFrom(m *pb.API) (*keymanager.API, error) {
	var c converter
	c.understand(m.GetMustUnderstand())
	a := &keymanager.API{
		ID:           keymanager.APIID(m.GetId()),
		Organization: keymanager.OrganizationID(m.GetOrganization()),
		Name:         m.GetName(),
		Context:      m.GetContext(),
		Version:      m.GetVersion(),
		Hosts:        stringsFrom[string](m.GetHosts()),
		Protocol:     read(&c, protocols, m.GetProtocol()),
		Timeout:      c.durationFrom(m.GetTimeout()),
		MaxDuration:  c.optionalFrom(m.GetMaxDuration()),
		IdleTimeout:  c.optionalFrom(m.GetIdleTimeout()),
		Production:   stringsFrom[string](m.GetProduction()),
		Sandbox:      stringsFrom[string](m.GetSandbox()),
		Backend:      c.backendFrom(m.GetBackend()),
		Resources: each(m.GetResources(), func(r *pb.Resource) keymanager.Resource {
			return keymanager.Resource{
				Method: r.GetMethod(), Path: r.GetPath(), AuthType: read(&c, authTypes, r.GetAuthType()),
				Scopes: stringsFrom[keymanager.Scope](r.GetScopes()), Tier: keymanager.TierName(r.GetTier()),
			}
		}),
		Security: each(m.GetSecurity(), func(s pb.SecurityScheme) keymanager.SecurityScheme { return read(&c, securitySchemes, s) }),
		Tiers:    stringsFrom[keymanager.TierName](m.GetTiers()),
		State:    read(&c, lifecycleStates, m.GetState()),
		Labels:   stringsFrom[string](m.GetLabels()),
		Cache:    read(&c, cacheModes, m.GetCache()),
		Position: m.GetPosition(),
		Meta:     c.metaFrom(m.GetMeta()),
	}
	if m.GetMaxStale() != nil {
		d := c.durationFrom(m.GetMaxStale())
		a.MaxStale = &d
	}
	if o := m.GetCors(); o != nil {
		a.CORS = &keymanager.CORS{
			AllowOrigins: stringsFrom[string](o.GetAllowOrigins()), AllowMethods: stringsFrom[string](o.GetAllowMethods()),
			AllowHeaders: stringsFrom[string](o.GetAllowHeaders()), ExposeHeaders: stringsFrom[string](o.GetExposeHeaders()),
			MaxAge: c.durationFrom(o.GetMaxAge()), AllowCredentials: o.GetAllowCredentials(),
		}
	}
	if c.err != nil {
		return &keymanager.API{ID: a.ID, Organization: a.Organization, Position: a.Position}, c.err
	}
	return a, nil
}
