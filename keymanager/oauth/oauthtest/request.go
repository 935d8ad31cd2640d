package oauthtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The paths of the endpoints are part of the promise.
const (
	pathToken      = "/oauth2/token"
	pathRevoke     = "/oauth2/revoke"
	pathIntrospect = "/oauth2/introspect"
	pathMetadata   = "/.well-known/oauth-authorization-server"
)

const (
	grantBody = "grant_type=client_credentials"
	inactive  = `{"active":false}`
)

// checker checks the statements at one site.
type checker struct {
	Site
	addresses int // used so far
}

// request is one request; its zero values are those of a good one.
type request struct {
	method      string // POST
	path        string // of the token endpoint
	query       string
	contentType *string // application/x-www-form-urlencoded
	auth        []string
	body        string
	host        string
	header      http.Header
	from        int // address; 0 = a new one
}

// reply is what came back.
type reply struct {
	Status int
	Header http.Header
	Body   string
}

// member returns a member of the JSON body, nil if there is none.
func (r reply) member(name string) any {
	var m map[string]any
	if json.Unmarshal([]byte(r.Body), &m) != nil {
		return nil
	}
	return m[name]
}

func (r reply) text(name string) string {
	s, _ := r.member(name).(string)
	return s
}

func text(s string) *string { return &s }

// basic is the Authorization header of RFC 6749 section 2.3.1: both parts are
// form-encoded first.
func (c Client) basic() string {
	return basic(url.QueryEscape(c.ID) + ":" + url.QueryEscape(c.Secret))
}

func basic(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
}

// form is the body of client_secret_post.
func (c Client) form() string {
	return "&client_id=" + url.QueryEscape(c.ID) + "&client_secret=" + url.QueryEscape(c.Secret)
}

// do sends a request and checks what holds of every answer of the endpoints.
func (c *checker) do(t *testing.T, r request) reply {
	t.Helper()
	got := c.send(t, r)
	c.checkAnswer(t, got)
	return got
}

func (c *checker) send(t *testing.T, r request) reply {
	t.Helper()
	method, path := r.method, r.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = pathToken
	}
	if r.query != "" {
		path += "?" + r.query
	}
	h, err := http.NewRequestWithContext(context.Background(), method, c.URL+path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range r.header {
		h.Header[name] = values
	}
	h.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if r.contentType != nil {
		h.Header.Set("Content-Type", *r.contentType)
		if *r.contentType == "" {
			h.Header.Del("Content-Type")
		}
	}
	for _, a := range r.auth {
		h.Header.Add("Authorization", a)
	}
	if r.host != "" {
		h.Host = r.host
	}
	from := r.from
	if from == 0 {
		from = c.address()
	}
	res, err := c.Do(from, h)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(body)}
}

// address returns one that nothing came from yet.
func (c *checker) address() int {
	c.addresses++
	return c.addresses
}

func (c *checker) checkAnswer(t *testing.T, got reply) {
	t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got.Header.Get(name) != want {
			t.Errorf("%d: %s is %q, want %q", got.Status, name, got.Header.Get(name), want)
		}
	}
	if got.Status == http.StatusUnauthorized && got.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
	if got.Status >= 400 {
		if got.text("error") == "" && got.Body != "" {
			t.Errorf("%d without error: %s", got.Status, got.Body)
		}
		for _, char := range got.text("error") + got.text("error_description") {
			if char < 0x20 || char > 0x7e || char == '"' || char == '\\' {
				t.Errorf("%d: error with the character %q: %s", got.Status, char, got.Body)
			}
		}
	}
	c.checkSecrets(t, "the answer", got.Body)
}

// checkGateway checks an answer that the gateway gave itself.
func (c *checker) checkGateway(t *testing.T, got reply) {
	t.Helper()
	if got.Body != "" && (got.text("code") != "404" || got.text("request_id") != got.Header.Get("X-Request-Id")) {
		t.Errorf("%d %s, X-Request-Id %s", got.Status, got.Body, got.Header.Get("X-Request-Id"))
	}
	c.checkSecrets(t, "the gateway's answer", got.Body)
}

// checkSecrets looks for what a client sent or may not see.
func (c *checker) checkSecrets(t *testing.T, where, content string) {
	t.Helper()
	for _, secret := range c.secrets() {
		if secret != "" && strings.Contains(content, secret) {
			t.Errorf("%s repeats a secret: %s", where, content)
		}
	}
}

func (c *checker) secrets() []string {
	list := []string{"canary", c.Unissued, c.APIKey}
	for _, client := range []Client{c.Shop, c.Sandbox, c.Second, c.Expired, c.Watcher, c.Other, c.Stranger,
		c.BasicOnly, c.PostOnly, c.Rejected, c.Created, c.Orphan} {
		list = append(list, client.Secret)
	}
	for _, value := range c.Dead {
		list = append(list, value)
	}
	return list
}

func (c *checker) checkLog(t *testing.T) {
	t.Helper()
	log := c.Log()
	for i, secret := range c.secrets() {
		if secret != "" && strings.Contains(log, secret) {
			t.Errorf("the log has secret %d", i)
		}
	}
}

// issue gets a token for a client.
func (c *checker) issue(t *testing.T, client Client, scope string) string {
	t.Helper()
	got := c.do(t, request{auth: []string{client.basic()}, body: grantBody + "&scope=" + url.QueryEscape(scope)})
	if got.Status != http.StatusOK {
		t.Fatalf("no token: %d %s", got.Status, got.Body)
	}
	return got.text("access_token")
}

// ask introspects.
func (c *checker) ask(t *testing.T, auth, value string) reply {
	t.Helper()
	return c.do(t, request{path: pathIntrospect, auth: []string{auth}, body: "token=" + url.QueryEscape(value)})
}

// live says whether a token of a client's is.
func (c *checker) live(t *testing.T, client Client, value string) bool {
	t.Helper()
	got := c.ask(t, client.basic(), value)
	active, ok := got.member("active").(bool)
	if got.Status != http.StatusOK || !ok {
		t.Errorf("introspection: %d %s", got.Status, got.Body)
	}
	return active
}
