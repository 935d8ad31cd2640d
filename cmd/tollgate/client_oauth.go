package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tollgate/keymanager"
)

// tokenAnswer is a successful answer of the token endpoint (RFC 6749 section
// 5.1).
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
}

// requestToken gets an access token with the client's own credentials
// (RFC 6749 section 4.4). No scopes asks for all those of the APIs that the
// application is subscribed to.
func (c *client) requestToken(ctx context.Context, scopes ...string) (tokenAnswer, error) {
	form := url.Values{"grant_type": {keymanager.GrantClientCredentials}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	var answer tokenAnswer
	err := c.oauth(ctx, "token", form, &answer)
	if err == nil && answer.AccessToken == "" {
		err = errors.New("token endpoint: the answer holds no access_token")
	}
	if err != nil {
		return tokenAnswer{}, err
	}
	return answer, nil
}

// managementToken gets the token of this run. The scopes of the management
// plane have to be asked for; the client gets those that it has.
func (c *client) managementToken(ctx context.Context) error {
	var scopes []string
	for _, s := range keymanager.ManagementScopes() {
		scopes = append(scopes, string(s))
	}
	answer, err := c.requestToken(ctx, scopes...)
	if refused, ok := errors.AsType[*oauthError](err); ok && refused.code == "invalid_scope" {
		return fmt.Errorf("consumer key %s has no scope of the management plane (%s): an administrator gives them to an application",
			c.creds.ConsumerKey, strings.Join(scopes, ", "))
	}
	if err != nil {
		return err
	}
	c.token = answer.AccessToken
	return nil
}

// revokeToken revokes an access token of the client's own (RFC 7009).
func (c *client) revokeToken(ctx context.Context, token string) error {
	return c.oauth(ctx, "revoke", url.Values{"token": {token}}, nil)
}

// oauth sends a form to one of the OAuth endpoints, authenticated by the
// client's own credentials.
func (c *client) oauth(ctx context.Context, endpoint string, form url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.creds.Server+"/oauth2/"+endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749 section 2.3.1: both parts are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(string(c.creds.ConsumerKey)), url.QueryEscape(string(c.creds.ConsumerSecret)))
	var refusal struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	status, err := c.do(req, answer, &refusal)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return nil
	case refusal.Error == "" || status >= 500: // of the endpoint, not of the request
		return fmt.Errorf("%s endpoint: status %d %s", endpoint, status, cell(refusal.Description))
	default:
		return &oauthError{endpoint, refusal.Error, refusal.Description}
	}
}

// oauthError is a refusal of an OAuth endpoint (RFC 6749 section 5.2).
type oauthError struct{ endpoint, code, description string }

// Error returns the code, and the description where there is one.
func (e *oauthError) Error() string {
	return e.endpoint + " endpoint: " + strings.TrimSuffix(e.code+": "+e.description, ": ")
}
