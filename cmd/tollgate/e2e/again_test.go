//go:build !short

package e2e

import (
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// What a developer has changed or deleted stays so at the next start, which
// says that the demo's commands no longer do what they did.
func TestSecondStartKeepsChanges(t *testing.T) {
	r, p := dev(t)
	first := p.Stdout()
	p.Stop()
	p = r.Dev()
	if again := p.WaitOutput(readyLine); again != first {
		t.Errorf("second page:\n%s\nfirst:\n%s", again, first)
	}
	r.Tollgate("delete", "subscription", "demo-pets")
	p.Stop()
	p = r.Dev()
	if page := p.WaitOutput(readyLine); !strings.Contains(page, "note: ") || !strings.Contains(page, "status 403") {
		t.Errorf("without its subscription:\n%s", page)
	}
	r.Tollgate("key", "delete", "demo")
	p.Stop()
	p = r.Dev()
	if page := p.WaitOutput(readyLine); !strings.Contains(page, "invalid_client") {
		t.Errorf("without its key:\n%s", page)
	}
	if out := r.Tollgate("get", "subscriptions"); strings.Contains(out, "demo-pets") {
		t.Errorf("deleted, and there again:\n%s", out)
	}
	p.Stop()

	// Other ports for the sample back end: the demo's APIs follow.
	moved := rig.FreePorts(t, 2)
	r.Production, r.Sandbox = moved[0], moved[1]
	p = r.Dev()
	p.WaitOutput(readyLine)
	if out := r.Tollgate("get", "api", "orders/2.0.0", "-o", "yaml"); !strings.Contains(out, moved[0]) || !strings.Contains(out, moved[1]) {
		t.Errorf("the API's endpoints:\n%s", out)
	}
	p.Stop()
}
