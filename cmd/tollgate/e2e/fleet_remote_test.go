//go:build !short

package e2e

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/cmd/tollgate/e2e/rig"
)

// A fleet whose Envoys ask authz on other machines, over mTLS, and reach key
// managers that speak HTTPS: an operator applies documents, a developer gets a
// token through a gateway, and both are felt as in any other fleet.
func TestFleetRemote(t *testing.T) {
	f := rig.NewFleet(t, map[string][]string{"remote": {}})
	t.Setenv("SSL_CERT_FILE", f.CAFile())
	t.Cleanup(func() { f.KeepsSecrets(t) })
	back := backend(t, f.Production)
	secrets := filepath.Join(filepath.Dir(f.State), "secrets")
	manifest := f.File("fleet.yaml", strings.ReplaceAll(fleetWorld, "PRODUCTION_URL", "http://"+f.Production))
	f.Tollgate("apply", "-f", manifest, "--wait", "--secrets", secrets, "--credentials", f.AdminFile(t))
	files, err := filepath.Glob(filepath.Join(secrets, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("credentials files %q, %v", files, err)
	}
	buyer, err := rig.ReadClient(files[0])
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Fleet: f, back: back, client: buyer}

	// The token endpoint is behind every gateway.
	good, dead := f.IssueAt(t, f.Gateways[0], buyer), f.IssueAt(t, f.Gateways[1], buyer)
	w.everywhere(t, shopItems, good, 200, "")
	w.everywhere(t, shopItems, dead, 200, "")
	w.revoke(t, f.Gateways[2], dead)
	w.everywhere(t, shopItems, dead, 401, "900901")
	w.everywhere(t, shopItems, "tgat_forged", 401, "900901")

	t.Run("guesses at one address lock out nobody at another", func(t *testing.T) {
		from := func(address, secret string) int {
			c := &http.Client{Timeout: rig.Patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
				return d.DialContext(ctx, network, to)
			}}}
			a, err := rig.Client{ID: buyer.ID, Secret: secret}.PostWith(t, c, "http://"+f.Gateways[0]+"/oauth2/token", forToken)
			if err != nil {
				t.Fatal(err)
			}
			return a.Status
		}
		locked := false
		for range 30 { // ten at each of two key managers
			locked = locked || from("127.0.0.2", "wrong") == http.StatusTooManyRequests
		}
		if !locked {
			t.Error("nobody is locked out: the rest shows nothing")
		}
		for range 4 {
			if got := from("127.0.0.3", buyer.Secret); got != http.StatusOK {
				t.Errorf("another client of the gateway is answered %d", got)
			}
		}
	})
	t.Run("authz cannot be reached", func(t *testing.T) {
		wire := f.Wire("envoy-1", "authz-1")
		wire.Cut()
		w.at(t, f.Gateways[:1], shopItems, good, 503, "900900")
		w.at(t, f.Gateways[:1], shopItems, dead, 503, "900900")
		w.at(t, f.Gateways[1:], shopItems, good, 200, "")
		wire.Heal()
		w.at(t, f.Gateways[:1], shopItems, good, 200, "")
		w.at(t, f.Gateways[:1], shopItems, dead, 401, "900901")
	})
	t.Run("authz is restarted", func(t *testing.T) {
		f.Authz[1].Restart()
		w.at(t, f.Gateways[1:2], shopItems, good, 200, "")
		w.at(t, f.Gateways[1:2], shopItems, dead, 401, "900901")
	})
}
