package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// Options are what the management API is made of. Gateways, Validator, Confirm,
// Rand, Logger and Version may be left out.
type Options struct {
	Store         store.Store
	Minter        Minter
	Peppers       Peppers
	Authenticator Authenticator
	Gateways      Gateways // nil: none are shown
	// Validator answers ValidationPath; nil: that is answered 503.
	Validator keymanager.Validator
	// Confirm waits until the gateways of this process use what the log says
	// up to p, or ctx ends. Answers to writes wait for it for a short while.
	Confirm func(ctx context.Context, p keymanager.Position) error
	Now     func() time.Time
	Rand    io.Reader // of ids and consumer keys; nil: crypto/rand
	Logger  *slog.Logger
	Version string // of the program, shown in the OpenAPI document
}

// Minter makes credentials.
type Minter interface {
	ClientSecret() (string, error)
	APIKey() (string, error)
}

// Peppers make what is stored of a credential.
type Peppers interface {
	Digest(value string) keymanager.Digest
	// Match reports whether d is the digest of value.
	Match(d keymanager.Digest, value string) bool
}

// Gateways knows the gateway parts that report to this process.
type Gateways interface {
	States() []keymanager.GatewayState
}

// Paths of the management API.
const (
	Prefix      = "/api/v1"
	OpenAPIPath = "/api/openapi" // .json and .yaml
)

// server answers the requests. It has no state of its own.
type server struct {
	Options
	kinds map[string]kind // what apply takes
}

// New returns the handler of everything below /api/.
func New(o Options) (http.Handler, error) {
	if o.Store == nil || o.Minter == nil || o.Peppers == nil || o.Authenticator == nil || o.Now == nil {
		return nil, errors.New("admin: Options needs Store, Minter, Peppers, Authenticator and Now")
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	s := &server{Options: o, kinds: map[string]kind{}}
	mux := http.NewServeMux()
	m := &mount{server: s, seen: map[string]bool{}}
	m.api = humago.New(mux, s.config())
	m.api.OpenAPI().Components.Schemas.RegisterTypeAlias(errorModelType, problemType)
	m.api.UseMiddleware(s.gate)
	for _, noun := range []func(*mount){
		mountOrganizations, mountUsers, mountTiers, mountAPIs, mountImport,
		mountApplications, mountKeys, mountSecrets, mountAPIKeys,
		mountSubscriptions, mountApply, mountGateways, mountAudit, mountUsage, mountTokens, mountValidate,
	} {
		noun(m)
	}
	for id := range rights {
		if !m.seen[id] {
			return nil, fmt.Errorf("admin: the table of rights names %q, which is no operation", id)
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	if err := serveOpenAPI(mux, m.api.OpenAPI()); err != nil {
		return nil, err
	}
	return s.outermost(mux), nil
}

func (s *server) config() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Tollgate management API",
				Version:     s.Version,
				Description: "Names identify objects; ids are shown and never change. Errors are problem details (RFC 9457) whose errors name the place in the body by JSON pointer (RFC 6901).",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"accessToken": {Type: "http", Scheme: "bearer", Description: "An access token of this key manager with one of the scopes that the operation names."},
				},
			},
			Security: []map[string][]string{{"accessToken": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{toProblem},
	}
}

// serveOpenAPI serves the description of the API, rendered once.
func serveOpenAPI(mux *http.ServeMux, doc *huma.OpenAPI) error {
	asJSON, err := doc.MarshalJSON()
	if err != nil {
		return fmt.Errorf("admin: OpenAPI document: %w", err)
	}
	asYAML, err := doc.YAML()
	if err != nil {
		return fmt.Errorf("admin: OpenAPI document: %w", err)
	}
	for _, f := range []struct {
		suffix, contentType string
		content             []byte
	}{
		{".json", "application/openapi+json", asJSON},
		{".yaml", "application/openapi+yaml", asYAML},
	} {
		mux.HandleFunc("GET "+OpenAPIPath+f.suffix, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.contentType)
			_, _ = w.Write(f.content)
		})
	}
	return nil
}
