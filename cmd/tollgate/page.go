package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"text/template"
	"time"
)

// demoPage is what "dev" prints when everything is ready.
type demoPage struct {
	Gateway, KeyManager, Ops, State string
	Demo                            Credentials
	Note                            string // what is not as the first start left it
}

// pageTemplate has three commands, each on a line of its own, that run in any
// POSIX shell with curl.
var pageTemplate = template.Must(template.New("page").Parse(`
Tollgate is ready.

  gateway          {{.Gateway}}
  token endpoint   {{.Gateway}}/oauth2/token
  management API   {{.KeyManager}}/api/v1 (credentials in {{.State}}/admin.json)
  health, metrics  {{.Ops}}/readyz, {{.Ops}}/metrics

  consumer key     {{.Demo.ConsumerKey}}
  consumer secret  {{printf "%s" .Secret}}
{{if .Note}}
  note: {{.Note}}
{{end}}
Paste into another shell: get a token, call an API with it (200), call it without (401).

TOKEN=$(curl -s -u '{{.Demo.ConsumerKey}}:{{printf "%s" .Secret}}' -d grant_type=client_credentials {{.Gateway}}/oauth2/token | sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p'); echo "$TOKEN"

curl -i -H "Authorization: Bearer $TOKEN" {{.Gateway}}{{.Path}}

curl -i {{.Gateway}}{{.Path}}

Ctrl-C stops everything.
`))

// Secret is the demo secret in clear: this page is the one place that shows it.
func (p demoPage) Secret() string { return string(p.Demo.ConsumerSecret) }

// Path is the resource that the page's commands call.
func (p demoPage) Path() string { return "/pets/1.0.0/pets" }

// refusedError says that a demo command was answered, and not as it should be.
type refusedError struct{ error }

// tryDemo does what the page's commands do, until it works. After the first
// start a developer may have deleted the demo's key or API, or taken its
// subscription away: a refusal that stays is then told as a note.
func (d *daemon) tryDemo(ctx context.Context, p demoPage, first bool) (note string, err error) {
	// The credentials at the gateway's own address: the whole way of a caller.
	c, err := newClient(Credentials{Server: p.Gateway, ConsumerKey: p.Demo.ConsumerKey, ConsumerSecret: p.Demo.ConsumerSecret})
	if err != nil {
		return "", err
	}
	defer c.http.CloseIdleConnections()
	begun, said := time.Now(), time.Now()
	for {
		err := callDemo(ctx, c, p)
		_, refused := errors.AsType[refusedError](err)
		switch {
		case err == nil:
			return "", nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case !first && refused && (c.token == "" || time.Since(begun) > 5*time.Second):
			return fmt.Sprintf("the commands below do not work as they did at the first start (%v)", err), nil
		case time.Since(said) > 5*time.Second:
			d.log.Warn("the sample API does not answer yet", "error", err)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func callDemo(ctx context.Context, c *client, p demoPage) error {
	if c.token == "" {
		answer, err := c.requestToken(ctx)
		if _, refused := errors.AsType[*oauthError](err); refused {
			return refusedError{err}
		}
		if err != nil {
			return err
		}
		c.token = answer.AccessToken
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Gateway+p.Path(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	var echo sampleEcho
	status, err := c.do(req, &echo, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", p.Path(), status)
		if status < 500 {
			err = refusedError{err}
		}
	}
	return err
}
