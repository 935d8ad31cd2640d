//go:build !short

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tollgate/cmd/tollgate/e2e/rig"
)

// users are clients as there are many: each gets a token, calls with it,
// revokes it, and calls again, over and over. A call at a key manager that
// comes to nothing is made again at the other one, as a client behind a
// balancer does; an answer is final.
type users struct {
	w    *world
	http *http.Client
	stop context.CancelFunc
	wait sync.WaitGroup

	mu     sync.Mutex
	rounds int
	again  map[string]int // calls that were made again, by reason
	wrong  []string
}

// startUsers starts n of them. They call gateways that pick returns.
func (w *world) startUsers(t *testing.T, n int, gateways func() []string) *users {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	u := &users{w: w, stop: stop, again: map[string]int{}, http: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: n}}}
	t.Cleanup(u.end)
	for i := range n {
		u.wait.Go(func() {
			for k := i; ctx.Err() == nil; k++ {
				at := gateways()
				err := u.round(k, at[k%len(at)])
				u.mu.Lock()
				u.rounds++
				if err != nil {
					u.wrong = append(u.wrong, err.Error())
				}
				u.mu.Unlock()
			}
		})
	}
	return u
}

// end lets every round come to its end.
func (u *users) end() {
	u.stop()
	u.wait.Wait()
	u.http.CloseIdleConnections()
}

// goOn waits until n more rounds have ended.
func (u *users) goOn(t *testing.T, n int) {
	t.Helper()
	from := u.ended()
	rig.Eventually(t, "the clients go on", func() error {
		if now := u.ended(); now < from+n {
			return fmt.Errorf("%d rounds", now-from)
		}
		return nil
	})
}

func (u *users) ended() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rounds
}

// check ends them and fails the test for every round that went wrong.
func (u *users) check(t *testing.T) {
	t.Helper()
	u.end()
	t.Logf("%d rounds of the clients; calls made again: %v", u.rounds, u.again)
	if u.rounds == 0 {
		t.Error("no client has done anything")
	}
	for i, wrong := range u.wrong {
		if i == 10 {
			t.Errorf("… %d more", len(u.wrong)-i)
			break
		}
		t.Error(wrong)
	}
}

// round is one life of a token.
func (u *users) round(k int, gateway string) error {
	body, err := u.post(k, "/oauth2/token", url.Values{"grant_type": {"client_credentials"}})
	if err != nil {
		return err
	}
	var issued struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &issued); err != nil || issued.AccessToken == "" {
		return fmt.Errorf("no token in the answer: %w", err)
	}
	u.w.Secret(issued.AccessToken)
	if a, err := u.call(gateway, issued.AccessToken); a.Status != http.StatusOK {
		return u.unexpected("a new token", gateway, a, err)
	}
	if _, err := u.post(k+1, "/oauth2/revoke", url.Values{"token": {issued.AccessToken}}); err != nil {
		return err
	}
	for deadline := time.Now().Add(rig.Patience); ; {
		a, err := u.call(gateway, issued.AccessToken)
		if a.Status == http.StatusUnauthorized && a.Code() == "900901" {
			return nil
		}
		if a.Status != http.StatusOK || time.Now().After(deadline) {
			return u.unexpected("a revoked token", gateway, a, err)
		}
	}
}

// unexpected says what came instead, with what the logs say of that request.
func (u *users) unexpected(what, gateway string, a rig.Answer, err error) error {
	if err != nil {
		return fmt.Errorf("%s at %s: %w", what, gateway, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s: %d %s", what, gateway, a.Status, a.Code())
	if id := a.Header.Get("X-Request-Id"); id != "" {
		for line := range strings.Lines(u.w.AllLogs()) {
			if strings.Contains(line, id) {
				b.WriteString("\n" + line)
			}
		}
	}
	return errors.New(b.String())
}

// call asks for the items of the shop.
func (u *users) call(gateway, token string) (rig.Answer, error) {
	return rig.DoWith(u.http, http.MethodGet, "http://"+gateway+shopItems, "Authorization", "Bearer "+token)
}

// tries is how often a call at a key manager is made: each twice.
const tries = 4

// post calls key managers in turn, from the k-th on, until one answers.
func (u *users) post(k int, path string, form url.Values) ([]byte, error) {
	var last error
	for i := range tries {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost,
			"http://"+u.w.Web[(k+i)%len(u.w.Web)]+path, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", u.w.client.Basic())
		a, err := rig.Send(u.http, req)
		if err == nil && a.Status == http.StatusOK {
			return []byte(a.Body), nil
		}
		if err == nil {
			return nil, fmt.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
		last = err
		u.mu.Lock()
		u.again[path+" "+errors.Unwrap(err).Error()]++
		u.mu.Unlock()
	}
	return nil, fmt.Errorf("%s at every key manager: %w", path, last)
}

// onceInLog fails the test if a revocation was begun and not finished, or done
// twice: each token that is revoked is once in the log as dead, and no other.
func (w *world) onceInLog(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.Postgres.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var events, subjects, halves int
	err = conn.QueryRow(t.Context(), `
WITH dead AS (SELECT body->>'token' AS id FROM log_event WHERE kind = 'dead' AND body ? 'token'),
  revoked AS (SELECT encode(id, 'hex') AS id FROM access_token WHERE revoked_at IS NOT NULL)
SELECT (SELECT count(*) FROM dead), (SELECT count(DISTINCT id) FROM dead),
  (SELECT count(*) FROM dead d FULL JOIN revoked r ON d.id = r.id WHERE d.id IS NULL OR r.id IS NULL)`).Scan(&events, &subjects, &halves)
	if err != nil || events == 0 || events != subjects || halves != 0 {
		t.Errorf("%d revocations of %d tokens are in the log, and %d half, %v", events, subjects, halves, err)
	}
}
