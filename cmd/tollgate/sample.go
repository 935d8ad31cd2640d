package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"tollgate/envoy"
)

// sampleEnvHeader tells in the sample back end's answer which instance gave
// it: production or sandbox.
const sampleEnvHeader = "x-sample-env"

// sampleEcho is what the sample back end answers: the request as it arrived.
type sampleEcho struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
}

// newSample returns the sample back end: it answers any request with what it
// saw, so that a developer sees what the gateway added.
func newSample(env string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := map[string]string{"host": r.Host}
		for name, values := range r.Header {
			headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(sampleEnvHeader, env)
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(sampleEcho{Method: r.Method, Path: r.URL.RequestURI(), Headers: headers})
	})
}

// The environments of the sample back end, named as at Envoy.
const (
	sampleProduction = envoy.EnvProduction
	sampleSandbox    = envoy.EnvSandbox
)
