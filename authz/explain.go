package authz

import (
	"context"
	"fmt"
	"strings"

	"tollgate/authz/apis"
	"tollgate/envoy"
	"tollgate/keymanager"
)

// Question is a request as someone describes it who asks what would become of
// it.
type Question struct {
	Method string
	Host   string // without port; "" = any
	// GroupHost says that Host is one of the gateway group's, where the APIs
	// answer that name no host.
	GroupHost bool
	Path      string // with the query, as it is after normalisation
	// Credential is what the caller would present, in the place for its kind;
	// "" = none. It is secret.
	Credential    string
	ClientAddress string // for keys that are bound to networks
	Referer       string // for keys that are bound to referers
}

// Explanation is what becomes of a request, and why.
type Explanation struct {
	Allowed     bool
	Status      int    // HTTP
	Code        string // of the body
	Reason      string // as in metrics and logs
	Message     string
	Description string
	Environment keymanager.KeyType // where an allowed request goes

	API          keymanager.APIID // "" = no route
	APIName      string
	APIVersion   string
	BasePath     string
	Resource     *keymanager.Resource // nil = none matches
	Organization keymanager.OrganizationID
	Application  keymanager.GrantApplication
	ConsumerKey  keymanager.ConsumerKey
	KeyType      keymanager.KeyType
	TokenID      keymanager.TokenID
	Scopes       []keymanager.Scope
	Subscription *keymanager.GrantSubscription // nil = none, or not known

	Steps []Step // in the order of the walk, up to the one that decided
}

// Step is one step of the walk.
type Step struct {
	Name   string
	Passed bool
	Detail string
}

// Explain says what would become of a request: the same walk as for Envoy's
// requests, without caches, counted nowhere. An error means that ctx ended.
func (s *Server) Explain(ctx context.Context, q Question) (Explanation, error) {
	api := s.routeOf(&q)
	if api == nil {
		t := unknownAPI.text()
		return Explanation{
			Status: t.status, Code: t.code, Reason: "no_route", Message: t.message, Description: t.description,
			Steps: []Step{{Name: stepRoute, Detail: "no published API has this host and a base path that the path starts with"}},
		}, nil
	}
	r := Request{API: api.ID, Rev: api.Rev, Gateway: s.group, Method: q.Method, Path: q.Path}
	if q.Credential != "" {
		switch {
		case s.tags.Check(keymanager.APIKeyCredential, q.Credential):
			r.APIKey.add(q.Credential)
		case api.TakesSubprotocol && !api.TakesBearer:
			r.Subprotocols = envoy.WebSocketToken + "," + q.Credential
		default:
			r.Authorization.add("Bearer " + q.Credential)
		}
	}
	if q.ClientAddress != "" {
		r.ClientAddress.add(q.ClientAddress)
	}
	if q.Referer != "" {
		r.Referer.add(q.Referer)
	}
	d := s.decide(ctx, &r, s.now(), s.uncached)
	if err := ctx.Err(); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	if d.API == nil {
		d.API = api
	}
	return d.explain(), nil
}

// routeOf finds the API whose route Envoy would choose: the longest base path
// on a segment boundary among the APIs of the host, or of every host.
func (s *Server) routeOf(q *Question) (found *apis.API) {
	path, _, _ := strings.Cut(q.Path, "?")
	s.apis.All(func(a *apis.API) bool {
		rest, below := strings.CutPrefix(path, a.BasePath)
		here := a.Serves(q.Host) && (q.Host == "" || q.GroupHost || len(a.Hosts) > 0)
		if below && (rest == "" || rest[0] == '/') && here && (found == nil || len(a.BasePath) > len(found.BasePath)) {
			found = a
		}
		return true
	})
	return found
}

// The names of the steps.
const (
	stepRoute      = "route"
	stepRequest    = "method and path"
	stepResource   = "resource"
	stepCredential = "credential"
	stepVerdict    = "key manager"
	stepFacts      = "application, subscription and scopes"
)

// decidedAt returns the number of the step that a reason belongs to.
func (r Reason) decidedAt() int {
	switch r {
	case methodRefused, pathRefused:
		return 1
	case noResource:
		return 2
	case missingCredential, malformedCredential, severalCredentials, notOurs, wrongPlace:
		return 3
	case keyManagerUnavailable, overloaded, outdated, unknownVerdict, unknownCredential,
		revokedCredential, expiredCredential, applicationInactive, userInactive:
		return 4
	case noEndpoint, wrongTokenType, notSubscribed, subscriptionBlocked, subscriptionInactive,
		networkRefused, refererRefused, insufficientScope, allowed:
		return 5
	case allowedAnonymous:
		return 3
	default:
		return 0
	}
}

func (d *Decision) explain() Explanation {
	t := d.Reason.text()
	ok := d.Reason.outcome() == outcomeOK
	e := Explanation{
		Allowed: ok, Status: t.status, Code: t.code, Reason: t.name, Message: t.message, Description: t.description,
		Environment: d.Env,
		API:         d.API.ID, APIName: d.API.Name, APIVersion: d.API.Version, BasePath: d.API.BasePath,
		Resource: d.Resource,
	}
	if v := d.Verdict; v != nil && v.Grant != nil {
		g := v.Grant
		e.Organization, e.Application, e.ConsumerKey, e.KeyType = g.Organization, g.Application, g.ConsumerKey, g.KeyType
		e.TokenID, e.Scopes, e.Subscription = v.TokenID, g.Scopes, g.Subscription
	}
	last := d.Reason.decidedAt()
	for i, step := range []Step{
		{Name: stepRoute, Detail: fmt.Sprintf("API %s %s at %s", e.APIName, e.APIVersion, e.BasePath)},
		{Name: stepRequest, Detail: "the method is allowed and the path has one meaning"},
		{Name: stepResource, Detail: e.resource()},
		{Name: stepCredential, Detail: d.credentialDetail()},
		{Name: stepVerdict, Detail: "the credential is known and live"},
		{Name: stepFacts, Detail: fmt.Sprintf("goes to %s", d.Env)},
	} {
		step.Passed = i < last || ok
		if !step.Passed {
			step.Detail = fmt.Sprintf("%s: %s", t.name, t.description)
			if i == 0 && d.API.Broken != nil {
				step.Detail += ": " + d.API.Broken.Error()
			}
		}
		e.Steps = append(e.Steps, step)
		if i == last {
			break
		}
	}
	return e
}

func (e *Explanation) resource() string {
	if e.Resource == nil {
		return ""
	}
	detail := fmt.Sprintf("%s %s asks for %s", e.Resource.Method, e.Resource.Path, e.Resource.AuthType)
	if len(e.Resource.Scopes) > 0 {
		detail += " and one of the scopes " + joinScopes(e.Resource.Scopes)
	}
	return detail
}

func (d *Decision) credentialDetail() string {
	switch {
	case d.Reason == allowedAnonymous:
		return "none is needed"
	case d.place == inAuthorization:
		return "an access token of ours in Authorization"
	case d.place == inSubprotocol:
		return "an access token of ours among the subprotocols"
	default:
		return "an API key of ours"
	}
}
