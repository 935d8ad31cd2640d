//go:build !short

package bootstrap_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/envoy/process"
)

// The real Envoy accepts each bootstrap, with all extensions in it.
func TestEnvoyAcceptsTheBootstrap(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, opts := range bootstrap.Goldens {
		t.Run(name, func(t *testing.T) {
			if opts.TLS != (bootstrap.TLS{}) { // Envoy reads the files
				trust := opts.TLS.TrustDomain
				opts.TLS = newMount(t, newAuthority(t).issue(t, "spiffe://example.org/gateway/edge/gw-1"))
				opts.TLS.TrustDomain = trust
			}
			raw, err := bootstrap.Render(opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Validate(ctx, envoytest.Binary(t), raw); err != nil {
				t.Error(err)
			}
			text, err := bootstrap.YAML(raw, bootstrap.Comments())
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "bootstrap.yaml")
			write(t, file, text)
			validateFile(ctx, t, file)
		})
	}
}
