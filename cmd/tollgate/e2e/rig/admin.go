package rig

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Client is the credential of a consumer key.
type Client struct{ ID, Secret string }

// Issue gets an access token of the client at the key manager.
func (r *Rig) Issue(t testing.TB, c Client, scopes ...string) string {
	t.Helper()
	return r.IssueAt(t, r.KeyManager, c, scopes...)
}

// IssueAt gets an access token of the client at one of several key managers.
func (r *Rig) IssueAt(t testing.TB, keyManager string, c Client, scopes ...string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	a := c.Post(t, "http://"+keyManager+"/oauth2/token", form)
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.Body), &token); err != nil || token.AccessToken == "" {
		t.Fatalf("no token: %d %s", a.Status, a.Body)
	}
	r.Secret(token.AccessToken, c.Secret)
	return token.AccessToken
}

// Post sends a form with the client's credential.
func (c Client) Post(t testing.TB, to string, form url.Values) Answer {
	t.Helper()
	a, err := c.PostWith(t, direct, to, form)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// PostWith is Post with an HTTP client of the caller's, who judges errors too.
func (c Client) PostWith(t testing.TB, by *http.Client, to string, form url.Values) (Answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", c.Basic())
	return Send(by, req)
}

// Basic is the value of the header Authorization with the client's credential
// (RFC 6749 section 2.3.1).
func (c Client) Basic() string {
	user := url.QueryEscape(c.ID) + ":" + url.QueryEscape(c.Secret)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
}

// ReadClient reads a file that holds a credential, such as admin.json.
func ReadClient(path string) (Client, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Client{}, err
	}
	var c struct {
		ConsumerKey    string `json:"consumer_key"`
		ConsumerSecret string `json:"consumer_secret"`
	}
	err = json.Unmarshal(data, &c)
	return Client{c.ConsumerKey, c.ConsumerSecret}, err
}

// Admin uses the management API with the credential in admin.json.
type Admin struct {
	url   string
	token string
}

// Admin signs in. The key manager must be up.
func (r *Rig) Admin(t testing.TB) *Admin {
	t.Helper()
	return r.signIn(t, filepath.Join(r.State, "admin.json"))
}

func (r *Rig) signIn(t testing.TB, file string) *Admin {
	t.Helper()
	c, err := ReadClient(file)
	if err != nil {
		t.Fatal(err)
	}
	return &Admin{"http://" + r.KeyManager + "/api/v1", r.Issue(t, c)}
}

// At is the same administrator at another key manager of the fleet.
func (a *Admin) At(keyManager string) *Admin {
	return &Admin{"http://" + keyManager + "/api/v1", a.token}
}

// Call sends a request with a JSON body (nil = none), and decodes the answer's.
func (a *Admin) Call(t testing.TB, method, path string, body, into any) Answer {
	t.Helper()
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, a.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.token)
	answer := send(t, req)
	if into != nil && answer.Status < 300 {
		if err := json.Unmarshal([]byte(answer.Body), into); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, answer.Body)
		}
	}
	return answer
}

// Must is Call for what has to succeed.
func (a *Admin) Must(t testing.TB, method, path string, body, into any) {
	t.Helper()
	if answer := a.Call(t, method, path, body, into); answer.Status > 299 {
		t.Fatalf("%s %s: %d %s", method, path, answer.Status, answer.Body)
	}
}

// Apply applies a manifest. It returns the credentials of the keys that it
// made, by name ("shop/PRODUCTION").
func (a *Admin) Apply(t testing.TB, manifest string) map[string]Client {
	t.Helper()
	documents, err := Documents(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var result struct {
		Documents []struct {
			Kind, Name string
			Secret     *struct{ ConsumerKey, ClientSecret string }
		} `json:"documents"`
	}
	a.Must(t, http.MethodPost, "/apply", map[string]any{"documents": documents, "wait": "10s"}, &result)
	keys := map[string]Client{}
	for _, d := range result.Documents {
		if d.Secret != nil {
			keys[d.Name] = Client{d.Secret.ConsumerKey, d.Secret.ClientSecret}
		}
	}
	return keys
}

// Documents reads the documents of a manifest, as /apply takes them.
func Documents(manifest string) (documents []any, err error) {
	for dec := yaml.NewDecoder(strings.NewReader(manifest)); ; {
		var document any
		err := dec.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
}

func send(t testing.TB, req *http.Request) Answer {
	t.Helper()
	a, err := Send(direct, req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
