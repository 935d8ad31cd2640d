package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// clientFlags are the flags of every command that talks to a key manager.
type clientFlags struct {
	state       string
	server      string
	credentials string
}

func (f *clientFlags) register(cmd *cobra.Command) {
	cmd.GroupID = "client"
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", defaultStateDir(), "state folder, whose admin.json is used unless --credentials is given")
	flags.StringVar(&f.server, "server", "", "URL of the key manager (default: as the credentials file says)")
	flags.StringVar(&f.credentials, "credentials", "", "0600 file with server, consumer_key and consumer_secret")
}

// open reads the credentials. Nothing is sent yet.
func (f *clientFlags) open() (*client, error) {
	path := f.credentials
	if path == "" {
		path = filepath.Join(f.state, fileAdmin)
	}
	creds, err := readCredentials(path)
	if errors.Is(err, fs.ErrNotExist) && f.credentials == "" {
		return nil, fmt.Errorf("%s is not there: run this where Tollgate was started, or name its state folder with --state, or a credentials file with --credentials", path)
	}
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if f.server != "" {
		creds.Server = f.server
	}
	return newClient(creds)
}

// client talks to the management API and the OAuth endpoints of one key
// manager.
type client struct {
	creds Credentials
	http  *http.Client
	token string // access token of this run
}

func newClient(creds Credentials) (*client, error) {
	creds.Server = strings.TrimRight(creds.Server, "/")
	if err := checkServer(creds.Server); err != nil {
		return nil, err
	}
	return &client{creds: creds, http: &http.Client{
		Timeout: 90 * time.Second,
		// A redirect would carry the token to where we did not mean it to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// problem is a refusal of the management API (RFC 9457). Errors name places in
// the request's body.
type problem struct {
	Status int            `json:"status"`
	Title  string         `json:"title"`
	Detail string         `json:"detail"`
	Errors []problemField `json:"errors,omitempty"`
}

type problemField struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Error returns the detail and every field.
func (p *problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for _, f := range p.Errors {
		if f.Detail == p.Detail { // one thing alone is wrong
			continue
		}
		b.WriteString("\n  " + strings.TrimPrefix(f.Pointer+": ", ": ") + f.Detail)
	}
	return b.String()
}

// errRefused says that the server has refused a request; why is in the refusal
// that the caller of send passed.
var errRefused = errors.New("refused")

// fill completes a refusal that says nothing, such as that of a proxy.
func (p *problem) fill(status int) {
	p.Status = status
	if p.Detail == "" {
		p.Detail = p.Title
	}
	if p.Detail == "" {
		p.Detail = http.StatusText(status)
	}
}

// rawBody is a body that is not JSON of ours.
type rawBody struct {
	content   []byte
	mediaType string
}

// call sends a request to the management API and decodes its answer. A refusal
// is a *problem.
func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
	refusal := &problem{}
	err := c.send(ctx, method, path, body, answer, refusal)
	if errors.Is(err, errRefused) {
		return refusal
	}
	return err
}

// send is call with a refusal of the caller's own type.
func (c *client) send(ctx context.Context, method, path string, body, answer any, refusal interface{ fill(int) }) error {
	if c.token == "" {
		if err := c.managementToken(ctx); err != nil {
			return err
		}
	}
	var reader io.Reader
	raw, isRaw := body.(rawBody)
	if body != nil && !isRaw {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		raw = rawBody{data, "application/json"}
	}
	if body != nil {
		reader = bytes.NewReader(raw.content)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.creds.Server+path, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", raw.mediaType)
	}
	status, err := c.do(req, answer, refusal)
	if err == nil && (status < 200 || status > 299) {
		refusal.fill(status)
		return errRefused
	}
	return err
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 256 << 20

// do sends req and decodes the body into answer (2xx) or refusal (the rest).
func (c *client) do(req *http.Request, answer, refusal any) (int, error) {
	res, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return 0, fmt.Errorf("nobody listens at %s: is Tollgate running, and is that its key manager?", c.creds.Server)
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	into := refusal
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		into = answer
	}
	if raw, ok := into.(*json.RawMessage); ok {
		*raw = data
	} else if into != nil && len(data) > 0 && strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(data, into); err != nil {
			return 0, fmt.Errorf("%s %s: the answer is not the JSON expected: %w", req.Method, req.URL.Path, err)
		}
	}
	return res.StatusCode, nil
}
