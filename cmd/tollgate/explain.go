package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tollgate/authz"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// explainPath is served by this package, not by admin: it runs authz's own
// walk over what the key manager knows.
const explainPath = admin.Prefix + "/explain"

// explainRequest asks what would become of a request. The credential travels
// in the body, never in a URL.
type explainRequest struct {
	Method        string `json:"method"`
	URL           string `json:"url"`
	Credential    string `json:"credential,omitempty"`
	ClientAddress string `json:"clientAddress,omitempty"`
	Referer       string `json:"referer,omitempty"`
}

// explainAnswer is what would become of it, and why.
type explainAnswer struct {
	Allowed      bool                         `json:"allowed"`
	Status       int                          `json:"status"`
	Code         string                       `json:"code,omitempty"`
	Reason       string                       `json:"reason"`
	Message      string                       `json:"message,omitempty"`
	Environment  keymanager.KeyType           `json:"environment,omitempty"`
	Route        string                       `json:"route,omitempty"`
	API          string                       `json:"api,omitempty"`
	APIID        keymanager.APIID             `json:"apiId,omitempty"`
	Resource     string                       `json:"resource,omitempty"`
	Organization keymanager.OrganizationID    `json:"organization,omitempty"`
	Application  string                       `json:"application,omitempty"`
	ConsumerKey  keymanager.ConsumerKey       `json:"consumerKey,omitempty"`
	KeyType      keymanager.KeyType           `json:"keyType,omitempty"`
	TokenID      string                       `json:"tokenId,omitempty"`
	Scopes       []keymanager.Scope           `json:"scopes,omitempty"`
	Tier         keymanager.TierName          `json:"subscriptionTier,omitempty"`
	State        keymanager.SubscriptionState `json:"subscriptionState,omitempty"`
	Steps        []explainStep                `json:"steps"`
	Note         string                       `json:"note,omitempty"`
}

type explainStep struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// explainHandler answers at explainPath, to administrators of the system: it
// tells about every organization's credentials.
type explainHandler struct {
	who   admin.Authenticator
	authz *authz.Server
	hosts []string // of the gateway group
	log   *slog.Logger
}

// maxQuestion bounds the body of a question.
const maxQuestion = 64 << 10

// explainer returns an authz for the questions: the one of this process, or one
// that is never served and reports to nobody.
func (d *daemon) explainer(valid keymanager.Validator) (*authz.Server, error) {
	if d.authz != nil {
		return d.authz, nil
	}
	s, err := authz.New(authz.Options{
		ID: "explain", Validator: valid, Uncached: valid, Catalog: d.publish, Revocations: d.publish,
		Gateways: nobody{}, Tags: d.keys.Tags, Now: time.Now, Logger: d.log,
	})
	if err == nil {
		d.background = append(d.background, task{"explain", s.Run})
	}
	return s, err
}

// nobody takes the reports of an authz that serves no gateway.
type nobody struct{}

// Report implements keymanager.Gateways.
func (nobody) Report(context.Context, keymanager.GatewayState) error { return nil }

// ServeHTTP implements http.Handler.
func (h explainHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, err := h.who.Authenticate(r)
	switch {
	case errors.Is(err, admin.ErrNoCredential), errors.Is(err, admin.ErrInvalidToken):
		w.Header().Set("WWW-Authenticate", `Bearer realm="tollgate"`)
		writeProblem(w, http.StatusUnauthorized, err.Error())
		return
	case err != nil:
		h.log.Warn("explain: caller not known", "error", err)
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusServiceUnavailable, "try again")
		return
	case caller.Organization != admin.SystemOrganization || !slices.Contains(caller.Scopes, keymanager.ScopeAdmin):
		writeProblem(w, http.StatusForbidden, fmt.Sprintf("needs the scope %s and an application of the organization %s",
			keymanager.ScopeAdmin, admin.SystemOrganization))
		return
	}
	var q explainRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		writeProblem(w, http.StatusBadRequest, "the body is not a question: method, url, credential, clientAddress, referer")
		return
	}
	answer, err := h.explain(r, q)
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer)
}

func (h explainHandler) explain(r *http.Request, q explainRequest) (*explainAnswer, error) {
	u, err := url.Parse(q.URL)
	if err != nil || !strings.HasPrefix(u.Path, "/") || (u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("url: must be http://host/path or /path")
	}
	host := strings.ToLower(u.Hostname())
	ours := slices.ContainsFunc(h.hosts, func(pattern string) bool { return matchesHost(pattern, host) })
	e, err := h.authz.Explain(r.Context(), authz.Question{
		Method: q.Method, Host: host, GroupHost: ours, Path: u.RequestURI(),
		Credential: q.Credential, ClientAddress: q.ClientAddress, Referer: q.Referer,
	})
	if err != nil {
		return nil, err
	}
	a := &explainAnswer{
		Allowed: e.Allowed, Status: e.Status, Code: e.Code, Reason: e.Reason, Message: e.Message,
		Environment: e.Environment, Route: e.BasePath, APIID: e.API,
		Organization: e.Organization, Application: e.Application.Name, ConsumerKey: e.ConsumerKey, KeyType: e.KeyType, Scopes: e.Scopes,
	}
	if e.API != "" {
		a.API = e.APIName + "/" + e.APIVersion
	}
	if e.Resource != nil {
		a.Resource = e.Resource.Method + " " + e.Resource.Path
	}
	if !e.TokenID.IsZero() {
		a.TokenID = e.TokenID.String()
	}
	if e.Subscription != nil {
		a.Tier, a.State = e.Subscription.Tier, e.Subscription.State
	}
	if host != "" && !ours {
		a.Note = fmt.Sprintf("only APIs that name the host %s answer there; all others answer at %s", host, strings.Join(h.hosts, ", "))
	}
	for _, s := range e.Steps {
		a.Steps = append(a.Steps, explainStep(s))
	}
	return a, nil
}

// matchesHost reports whether a host is the one of the configuration, or one
// below it if that is a wildcard.
func matchesHost(pattern, host string) bool {
	if below, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(host) > len(below) && strings.HasSuffix(host, below)
	}
	return pattern == host
}

// writeProblem answers as the management API does (RFC 9457).
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem{Status: status, Title: http.StatusText(status), Detail: detail})
}
