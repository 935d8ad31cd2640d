package oauth_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/store"
)

// remembered is a store that costs nothing: what the endpoint itself costs.
type remembered struct {
	oauth.Store
	facts *store.ClientFacts
}

func (s *remembered) ClientFacts(context.Context, keymanager.ConsumerKey) (*store.ClientFacts, error) {
	return s.facts, nil
}

func (s *remembered) CreateToken(context.Context, *keymanager.Token) error { return nil }

// discard is a response that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func quiet(o *oauth.Options) { o.Logger = slog.New(slog.DiscardHandler) }

func BenchmarkTokenEndpoint(b *testing.B) {
	r := newRig(b, quiet)
	facts, err := r.store.Store.ClientFacts(context.Background(), "ck-shop")
	r.ok(err)
	fast, err := oauth.New(oauth.Options{Store: &remembered{r.store, facts}, Minter: r.minter, Tags: r.tags, Peppers: r.peppers, Issuer: issuer})
	r.ok(err)
	bare := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"access_token":"x"}`)
	})
	for _, tt := range []struct {
		name string
		h    http.Handler
	}{{"bare handler", bare}, {"endpoint alone", fast.Handler()}, {"SQLite", r.handler()}} {
		b.Run(tt.name, func(b *testing.B) {
			serve(b, tt.h, oauth.PathToken, r.client.basic(), ccBody, http.StatusOK)
		})
	}
}

// What an unknown client costs against one with a wrong secret: an answer's
// time should not tell them apart.
func BenchmarkRefusedClient(b *testing.B) {
	r := newRig(b, quiet, func(o *oauth.Options) { o.Failures = 1 << 62 })
	rejected := r.application("rejected", func(a *keymanager.Application) { a.Status = keymanager.ApplicationRejected })
	for _, tt := range []struct {
		name   string
		client credentials
	}{
		{"unknown", credentials{"ck-unknown", r.client.secret}},
		{"wrong secret", credentials{r.client.id, "wrong"}},
		{"application rejected", rejected},
	} {
		b.Run(tt.name, func(b *testing.B) {
			serve(b, r.handler(), oauth.PathToken, tt.client.basic(), ccBody, http.StatusUnauthorized)
		})
	}
}

func BenchmarkIntrospect(b *testing.B) {
	r := newRig(b, quiet)
	value := r.issue(r.client, "")
	serve(b, r.handler(), oauth.PathIntrospect, r.client.basic(), "token="+url.QueryEscape(value), http.StatusOK)
}

func serve(b *testing.B, h http.Handler, path, auth, body string, want int) {
	b.ReportAllocs()
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {auth}}
	for b.Loop() {
		req := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: path}, Header: header, Body: io.NopCloser(strings.NewReader(body))}
		w := &discard{header: http.Header{}}
		h.ServeHTTP(w, req)
		if w.status != want {
			b.Fatalf("%d, want %d", w.status, want)
		}
	}
}
