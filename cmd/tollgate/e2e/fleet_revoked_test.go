//go:build !short

package e2e

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
	tokens "tollgate/keymanager/token"
)

// liveRevocations is how many tokens are refused only because it is written in
// the log: to the database they are as good as ever.
const liveRevocations = 10_000

// emptyMemory ends authz, and then everything that remembers a revocation but
// the database.
func (w *world) emptyMemory(t *testing.T) {
	dead := w.revokeMany(t, liveRevocations)
	w.remembers(t, w.Authz, liveRevocations)
	w.allRefused(t, w.Gateways[0], dead[:100])

	// One authz begins anew, and cannot ask at first.
	first := w.Authz[:1]
	wires := w.between(first[0].Name, "keymanager")
	first[0].Kill()
	for _, wire := range wires {
		wire.BlackHole()
	}
	first[0].Start()
	notReady(t, first[0], "the revocations are not loaded")
	for _, tok := range []string{dead[0], w.dead, w.good} {
		w.at(t, w.Gateways[:1], shopItems, tok, 503, "900900")
	}
	for _, wire := range wires {
		wire.Heal()
	}
	first[0].Ready()
	w.allRefused(t, w.Gateways[0], dead[:len(dead)/5])
	w.remembers(t, first, liveRevocations)
	w.everywhere(t, shopItems, w.good, 200, "")

	// All that has a memory, at once.
	gone := append(append([]*rig.Node{}, w.Authz...), w.KeyManagers...)
	for _, n := range gone {
		n.Kill()
	}
	w.Redis.Kill()
	for _, gateway := range w.Gateways {
		w.at(t, []string{gateway}, shopItems, dead[0], 503, "900900")
	}
	for _, n := range gone { // authz first: it has to wait
		n.Start()
	}
	w.Redis.Restart()
	for _, n := range gone {
		n.Ready()
	}
	for i, gateway := range w.Gateways { // each a part of them, and one all
		if part := dead[i*len(dead)/10:][:len(dead)/10]; i > 0 {
			w.allRefused(t, gateway, part)
		} else {
			w.allRefused(t, gateway, dead)
		}
	}
	w.remembers(t, w.Authz, liveRevocations)
	w.everywhere(t, shopItems, w.good, 200, "")
}

// revokeMany issues and revokes n tokens by writing it into the database: the
// tokens live there, and the log says that they are dead.
func (w *world) revokeMany(t *testing.T, n int) []string {
	t.Helper()
	tags, err := tokens.ParseTagKeys(w.KeyFile(t, "tag"))
	if err != nil {
		t.Fatal(err)
	}
	peppers, err := tokens.ParsePeppers(w.KeyFile(t, "pepper"))
	if err != nil {
		t.Fatal(err)
	}
	mint := tokens.NewMinter(tags, rand.Reader)
	var rows strings.Builder
	out := make([]string, n)
	for i := range out {
		id, idErr := mint.TokenID()
		if out[i], err = mint.AccessToken(); err != nil || idErr != nil {
			t.Fatal(err, idErr)
		}
		d := peppers.Digest(out[i])
		if i > 0 {
			rows.WriteString(",\n")
		}
		fmt.Fprintf(&rows, "(%d, '%02x%x', '%s')", i+1, d.PepperID, d.Sum, id)
	}
	w.Secret(out[0], out[n-1])
	w.Postgres.Exec(fmt.Sprintf(`
BEGIN;
CREATE TEMPORARY TABLE many (n BIGINT, digest TEXT, id TEXT);
INSERT INTO many VALUES %s;
INSERT INTO access_token (digest, partition, id, consumer_key, application_id, key_type, user_id, user_type, scopes, issued_at, expires_at)
  SELECT decode(m.digest, 'hex'), t.partition, decode(m.id, 'hex'), t.consumer_key, t.application_id, t.key_type, t.user_id, t.user_type, t.scopes, t.issued_at, t.expires_at
  FROM many m, (SELECT * FROM access_token WHERE consumer_key = '%s' AND revoked_at IS NULL ORDER BY expires_at DESC LIMIT 1) t;
UPDATE log_head SET seq = seq + %d;
INSERT INTO log_event (seq, kind, body, expires_at)
  SELECT h.seq - %[3]d + m.n, 'dead', jsonb_build_object('token', m.id, 'expires_at', t.expires_at), t.expires_at
  FROM many m JOIN access_token t ON t.id = decode(m.id, 'hex'), log_head h;
COMMIT`, rows.String(), w.client.ID, n))
	return out
}

// remembers waits until each authz has at least n tokens that it refuses.
func (w *world) remembers(t *testing.T, authz []*rig.Node, n int) {
	t.Helper()
	for _, node := range authz {
		rig.Eventually(t, fmt.Sprintf("%s remembers %d revocations", node.Name, n), func() error {
			text, err := node.Metric(`tollgate_authz_dead_entries{kind="token"}`)
			if err != nil {
				return err
			}
			if have, err := strconv.ParseFloat(text, 64); err != nil || int(have) < n {
				return fmt.Errorf("it remembers %q: %w", text, err)
			}
			return nil
		})
	}
}

// allRefused calls with every token. One that is not decided is asked again;
// none may pass.
func (w *world) allRefused(t *testing.T, gateway string, tokens []string) {
	t.Helper()
	const clients = 8
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	work := make(chan string)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for tok := range work {
				deadline := time.Now().Add(rig.Patience)
				for {
					a, err := rig.DoWith(client, http.MethodGet, "http://"+gateway+shopItems, "Authorization", "Bearer "+tok)
					if a.Status == 401 && a.Code() == "900901" {
						break
					}
					if err == nil && a.Status != 503 || time.Now().After(deadline) {
						t.Errorf("a revoked token at %s: %d %s %v", gateway, a.Status, a.Code(), err)
						break
					}
				}
			}
		})
	}
	for _, tok := range tokens {
		work <- tok
	}
	close(work)
	wait.Wait()
}
