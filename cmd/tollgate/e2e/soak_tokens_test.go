//go:build soak

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// What the soak does at the key managers, each second.
const (
	soakIssues      = 15
	soakRevocations = 5
	soakChanges     = 5   // so many that the key managers' window of the newest 1,024 is full after the first quarter
	soakItems       = 10  // APIs of each kind that change, in turn
	soakEnded       = 500 // tokens that are over and still tried
)

// soakToken is an access token and what must be answered to it.
type soakToken struct {
	value         string
	asked, issued time.Time // before and after it was
	mu            sync.Mutex
	ending, ended time.Time    // its revocation asked for, and answered
	seen          [3]time.Time // last let through, by gateway
}

// state tells whether a call that took from … to must be let through, or
// refused; neither while that changes. It may be refused as expired, if expires.
func (k *soakToken) state(s *soak, from, to time.Time) (live, dead, expires bool) {
	k.mu.Lock()
	ending, ended := k.ending, k.ended
	k.mu.Unlock()
	const margin = 2 * time.Second // the key manager's idea of the second it was issued in
	live = to.Before(k.asked.Add(soakTokenLife-margin)) && (ending.IsZero() || to.Before(ending))
	dead = from.After(k.issued.Add(soakTokenLife+margin)) || !ended.IsZero() && s.settled(ended, from)
	return live, dead, !to.Before(k.asked.Add(soakTokenLife - margin))
}

// saw keeps that a gateway let the token through, and how long after its
// revocation that still happened.
func (k *soakToken) saw(gateway int, start time.Time) (late time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[gateway] = start
	if !k.ended.IsZero() && start.After(k.ended) {
		return start.Sub(k.ended)
	}
	return 0
}

func (k *soakToken) known(gateway int, since time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[gateway].After(since)
}

// soakTokens issues, revokes and changes, at whichever key manager answers.
type soakTokens struct {
	s      *soak
	client rig.Client // of the API that stays
	mover  rig.Client // of those that change
	http   *http.Client
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	churn  atomic.Bool

	mu                     sync.Mutex
	live, revoked, expired []*soakToken
	moving                 []*soakToken // of mover, and live
	items                  []*soakItem
	issued, ended, changes atomic.Int64
	retried                atomic.Int64
	adminToken             string
	adminUntil             time.Time
}

func newSoakTokens(s *soak, client, mover rig.Client) *soakTokens {
	w := &soakTokens{s: s, client: client, mover: mover, http: &http.Client{Timeout: 5 * time.Second}}
	for i := range soakItems {
		w.items = append(w.items,
			&soakItem{path: fmt.Sprintf("/sub%d/1.0.0/items", i), possible: []answer{{200, ""}, {401, "900907"}}, now: answer{200, ""}, since: time.Now()},
			// before its subscription is there it has nobody to let through
			&soakItem{path: fmt.Sprintf("/churn%d/1.0.0/items", i), possible: []answer{{200, ""}, {403, "900910"}, {403, "900908"}, {404, "404"}}, now: answer{404, "404"}, since: time.Now()})
	}
	return w
}

func (w *soakTokens) run() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.every(ctx, time.Second/soakIssues, func(ctx context.Context) { w.issue(ctx, w.client, "shop:write", &w.live) })
	w.every(ctx, time.Second/2, func(ctx context.Context) { w.issue(ctx, w.mover, "base:write", &w.moving) })
	w.every(ctx, time.Second/soakRevocations, w.revoke)
	w.every(ctx, time.Second, w.turnOver)
	w.every(ctx, time.Second/soakChanges, w.change())
	w.every(ctx, 30*time.Second, w.age)
}

func (w *soakTokens) stop() { w.cancel(); w.tasks.Wait() }

// every does something at a rate, one after another and a few at a time.
func (w *soakTokens) every(ctx context.Context, period time.Duration, do func(context.Context)) {
	w.tasks.Go(func() { every(ctx, period, do) })
}

// every does something at a rate until ctx ends.
func every(ctx context.Context, period time.Duration, do func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(ctx)
		}
	}
}

// send asks one key manager, and if it does not answer, the other.
func (w *soakTokens) send(ctx context.Context, method, path, contentType, authorization, body string) (status int, answer []byte, err error) {
	for i := range w.s.Web {
		web := w.s.Web[(int(w.issued.Load())+i)%len(w.s.Web)]
		req, e := http.NewRequestWithContext(ctx, method, "http://"+web+path, strings.NewReader(body))
		if e != nil {
			return 0, nil, e
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Authorization", authorization)
		res, e := w.http.Do(req)
		if e != nil {
			err = e
			continue
		}
		answer, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if status = res.StatusCode; err == nil && status < 500 {
			return status, answer, nil
		}
	}
	return status, answer, err
}

func (w *soakTokens) form(ctx context.Context, path string, c rig.Client, form url.Values) (int, []byte, error) {
	return w.send(ctx, http.MethodPost, path, "application/x-www-form-urlencoded", c.Basic(), form.Encode())
}

func (w *soakTokens) token(ctx context.Context, c rig.Client, scopes ...string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(scopes) > 0 { // without, it would have all
		form["scope"] = scopes
	}
	status, body, err := w.form(ctx, "/oauth2/token", c, form)
	var t struct {
		AccessToken string `json:"access_token"`
	}
	if err == nil {
		err = json.Unmarshal(body, &t)
	}
	if err != nil || t.AccessToken == "" {
		return "", errors.Join(fmt.Errorf("no token: %d %s", status, body), err)
	}
	return t.AccessToken, nil
}

func (w *soakTokens) issue(ctx context.Context, c rig.Client, scope string, to *[]*soakToken) {
	k := &soakToken{asked: time.Now()}
	var err error
	if k.value, err = w.token(ctx, c, scope); err != nil {
		w.retried.Add(1)
		return
	}
	k.issued = time.Now()
	w.issued.Add(1)
	w.mu.Lock()
	*to = append(*to, k)
	w.mu.Unlock()
}

// revoke ends a live token; it asks until it is answered.
func (w *soakTokens) revoke(ctx context.Context) {
	w.mu.Lock()
	if len(w.live) < 50 {
		w.mu.Unlock()
		return
	}
	i := rand.IntN(len(w.live))
	k := w.live[i]
	w.live = append(w.live[:i:i], w.live[i+1:]...)
	w.mu.Unlock()
	k.mu.Lock()
	k.ending = time.Now()
	k.mu.Unlock()
	for {
		status, _, err := w.form(ctx, "/oauth2/revoke", w.client, url.Values{"token": {k.value}})
		if err == nil && status == http.StatusOK {
			break
		}
		w.retried.Add(1)
		if !pause(ctx, 200*time.Millisecond) {
			return
		}
	}
	k.mu.Lock()
	k.ended = time.Now()
	k.mu.Unlock()
	w.ended.Add(1)
	w.mu.Lock()
	w.revoked = last(append(w.revoked, k), soakEnded)
	w.mu.Unlock()
}

// turnOver sorts out the tokens that have expired.
func (w *soakTokens) turnOver(context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tokens := range []*[]*soakToken{&w.live, &w.moving} {
		var live []*soakToken
		for _, k := range *tokens {
			if time.Since(k.asked) < soakTokenLife-2*time.Second {
				live = append(live, k)
			} else if tokens == &w.live {
				w.expired = last(append(w.expired, k), soakEnded)
			}
		}
		*tokens = live
	}
}

// age makes what has expired a day older in the database: a token is kept that
// long, and the sweeper would have nothing to do.
func (w *soakTokens) age(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = w.s.query(ctx, fmt.Sprintf(`UPDATE access_token SET expires_at = expires_at - 90000000 WHERE expires_at BETWEEN %d AND %d`,
		time.Now().Add(-time.Hour).UnixMilli(), time.Now().Add(-20*time.Second).UnixMilli()), nil) // next time, if it is down
}

// pick returns a random token of a kind, nil if there is none.
func (w *soakTokens) pick(from *[]*soakToken) *soakToken {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(*from) == 0 {
		return nil
	}
	return (*from)[rand.IntN(len(*from))]
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func last(all []*soakToken, n int) []*soakToken { return all[max(0, len(all)-n):] }
