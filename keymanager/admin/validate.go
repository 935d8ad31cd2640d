package admin

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"tollgate/keymanager"
)

// ValidationPath is where a credential is asked about.
const ValidationPath = "/api/validate"

// Validation asks whether a credential may call an API.
type Validation struct {
	Credential   ValidationCredential `json:"credential"`
	API          string               `json:"api" doc:"its id, or its name and version: pets/1.0.0"`
	Organization string               `json:"organization,omitempty" doc:"of the API, where it is named; only callers of the organization system may name another than their own"`
	Scopes       []string             `json:"scopes,omitempty" doc:"of the resource that is called: one of them is needed. None: none is"`
	Address      string               `json:"address,omitempty" doc:"where the call comes from; needed for an API key that is bound to networks"`
}

// ValidationCredential is what a caller presented.
type ValidationCredential struct {
	Kind  string `json:"kind" enum:"access_token,api_key"`
	Value string `json:"value" doc:"secret: it is neither stored nor logged nor repeated in the answer"`
}

// ValidationAnswer is the decision, and the facts behind it where the
// credential belongs to the caller's organization.
type ValidationAnswer struct {
	Allowed      bool                    `json:"allowed" doc:"whether the call may be made: by scopes, as far as the question names them, and not by the type of token that a resource asks for"`
	Reason       string                  `json:"reason" doc:"the same word as the gateway's: allowed, expired, not_subscribed, ..."`
	Status       int                     `json:"status" doc:"the HTTP status that the gateway answers the call with if it is refused; else 200"`
	Code         string                  `json:"code,omitempty" doc:"the error code that the gateway answers with: 900901, ..."`
	Message      string                  `json:"message,omitempty"`
	TokenID      string                  `json:"tokenId,omitempty" doc:"the jti, or the id of the API key"`
	IssuedAt     *time.Time              `json:"issuedAt,omitempty"`
	ExpiresAt    *time.Time              `json:"expiresAt,omitempty" doc:"none: never"`
	Organization string                  `json:"organization,omitempty"`
	Application  *ValidationApplication  `json:"application,omitempty"`
	ConsumerKey  string                  `json:"consumerKey,omitempty"`
	KeyType      string                  `json:"keyType,omitempty" enum:"PRODUCTION,SANDBOX"`
	Subscriber   string                  `json:"subscriber,omitempty" doc:"DOMAIN/user: the owner of the application"`
	User         string                  `json:"user,omitempty" doc:"DOMAIN/user: whom the credential stands for"`
	UserType     string                  `json:"userType,omitempty" enum:"APPLICATION,APPLICATION_USER"`
	Scopes       []string                `json:"scopes,omitempty" doc:"of the credential"`
	Subscription *ValidationSubscription `json:"subscription,omitempty"`
	Networks     []string                `json:"networks,omitempty"`
	Referers     []string                `json:"referers,omitempty"`
}

// ValidationApplication is the application of a credential.
type ValidationApplication struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Tier       string            `json:"tier"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ValidationSubscription is the application's subscription to the API.
type ValidationSubscription struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Tier  string `json:"tier"`
}

type validationOut struct{ Body ValidationAnswer }

// mountValidate mounts the question that gateways ask over gRPC for those who
// cannot speak that.
func mountValidate(m *mount) {
	s := m.server
	route(m, operation{
		id: "validate", method: http.MethodPost, path: ValidationPath, root: true, tag: "Validation", maxBody: 32 << 10, timeout: 5 * time.Second,
		summary: "Ask whether a credential may call an API",
	}, func(ctx context.Context, in *struct{ Body document[Validation] }) (*validationOut, error) {
		v, err := in.Body.read()
		if err != nil {
			return nil, err
		}
		return s.validate(ctx, v)
	})
}

// credentialKinds are the kinds by their names.
var credentialKinds = map[string]keymanager.CredentialKind{
	"access_token": keymanager.AccessToken,
	"api_key":      keymanager.APIKeyCredential,
}

func (s *server) validate(ctx context.Context, v *Validation) (*validationOut, error) {
	if s.Validator == nil {
		return nil, keymanager.Errorf(keymanager.KindUnavailable, "no validator")
	}
	var wrong []keymanager.FieldError
	kind, known := credentialKinds[v.Credential.Kind]
	if !known {
		wrong = append(wrong, keymanager.FieldError{Path: "/credential/kind", Detail: `must be one of "access_token", "api_key"`})
	}
	if v.Credential.Value == "" {
		wrong = append(wrong, keymanager.FieldError{Path: "/credential/value", Detail: "must be the credential"})
	}
	if v.API == "" {
		wrong = append(wrong, keymanager.FieldError{Path: "/api", Detail: "must be the id of an API, or NAME/VERSION"})
	}
	var address netip.Addr
	if v.Address != "" {
		var err error
		if address, err = netip.ParseAddr(v.Address); err != nil {
			wrong = append(wrong, keymanager.FieldError{Path: "/address", Detail: "must be an IPv4 or IPv6 address"})
		}
	}
	if err := keymanager.Invalid("the body does not fit", wrong); err != nil {
		return nil, err
	}
	api, err := s.validatedAPI(ctx, v)
	if err != nil {
		return nil, err
	}
	verdict, err := s.Validator.Validate(ctx, keymanager.Query{
		Credential: keymanager.Credential{Kind: kind, Value: v.Credential.Value}, API: api.ID,
	})
	if err != nil {
		// Whatever the error is, it says that nothing is known.
		return nil, &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "the credential could not be looked up", Err: err}
	}
	if !decided(verdict) {
		return nil, keymanager.Errorf(keymanager.KindUnavailable, "the key manager has decided nothing")
	}
	if g := verdict.Grant; g != nil && !requestOf(ctx).caller.reaches(g.Organization) {
		// What belongs to others is to the caller as if it did not exist.
		verdict = &keymanager.Verdict{Reason: keymanager.ReasonNoSuchCredential}
	}
	r := judge(api, verdict, named[keymanager.Scope](v.Scopes), address, s.Now())
	return &validationOut{Body: showValidation(r, verdict)}, nil
}

// decided reports whether a verdict says something that is understood here.
func decided(v *keymanager.Verdict) bool {
	switch {
	case v == nil:
		return false
	case v.Reason == keymanager.ReasonActive:
		return v.Grant != nil
	default:
		return v.Reason >= keymanager.ReasonNoSuchCredential && v.Reason <= keymanager.ReasonUserInactive
	}
}

// validatedAPI finds the API of a question, in an organization of the caller.
func (s *server) validatedAPI(ctx context.Context, v *Validation) (*keymanager.API, error) {
	caller := requestOf(ctx).caller
	none := keymanager.Errorf(keymanager.KindNotFound, "there is no such API")
	org := caller.Organization
	switch {
	case v.Organization != "":
		org = keymanager.OrganizationID(v.Organization)
	case caller.system():
		org = DefaultOrganization
	}
	var api *keymanager.API
	var err error
	if name, version, byName := strings.Cut(v.API, "/"); byName {
		if !caller.reaches(org) {
			return nil, none
		}
		api, err = found(s.Store.APIByName(ctx, org, name, version))
	} else {
		api, err = found(s.Store.API(ctx, keymanager.APIID(v.API)))
	}
	if err != nil {
		return nil, err
	}
	if api == nil || !caller.reaches(api.Organization) || v.Organization != "" && api.Organization != org {
		return nil, none
	}
	return api, nil
}

func showValidation(r ruling, v *keymanager.Verdict) ValidationAnswer {
	out := ValidationAnswer{Allowed: r == rulingAllowed, Reason: r.reason, Status: r.status, Code: r.code, Message: r.message}
	g := v.Grant
	if g == nil {
		return out
	}
	out.TokenID, out.IssuedAt, out.ExpiresAt = v.TokenID.String(), orNever(v.IssuedAt), orNever(v.ExpiresAt)
	out.Organization, out.ConsumerKey, out.KeyType = string(g.Organization), string(g.ConsumerKey), string(g.KeyType)
	out.Application = &ValidationApplication{ID: string(g.Application.ID), Name: g.Application.Name, Tier: string(g.Application.Tier), Attributes: g.Application.Attributes}
	out.Subscriber, out.User, out.UserType = g.Subscriber, g.User, string(g.UserType)
	out.Scopes, out.Referers = texts(g.Scopes), g.Referers
	for _, n := range g.Networks {
		out.Networks = append(out.Networks, n.String())
	}
	if sub := g.Subscription; sub != nil {
		out.Subscription = &ValidationSubscription{ID: string(sub.ID), State: string(sub.State), Tier: string(sub.Tier)}
	}
	return out
}
