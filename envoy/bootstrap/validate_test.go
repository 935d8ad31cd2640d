//go:build !short

package bootstrap

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tollgate/envoy/process"
)

// The real Envoy accepts each bootstrap, with all extensions in it.
func TestEnvoyAcceptsTheBootstrap(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	binary, err := process.Find(ctx, process.FindOptions{
		Explicit: os.Getenv("ENVOY_BIN"), Tools: []string{filepath.Join("..", "..", ".tools")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range goldens {
		t.Run(name, func(t *testing.T) {
			raw, err := Render(opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Validate(ctx, binary.Path, raw); err != nil {
				t.Error(err)
			}
		})
	}
}
