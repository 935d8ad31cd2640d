//go:build soak

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// soakItem is an API that changes: what is answered to a live token of its
// subscriber.
type soakItem struct {
	path     string
	possible []answer
	mu       sync.Mutex
	now      answer
	since    time.Time // answered; zero while it is changed
}

type answer struct {
	status int
	code   string
}

func (i *soakItem) expect(s *soak, from, to time.Time) []answer {
	i.mu.Lock()
	now, since := i.now, i.since
	i.mu.Unlock()
	if since.IsZero() || since.After(to) || !s.settled(since, from) {
		return i.possible
	}
	return []answer{now}
}

func churnAPI(name, production string, scope bool) string {
	scopes := ""
	if scope {
		scopes = `, scopes: ["` + name + `:admin"]`
	}
	return fmt.Sprintf(`{kind: API, organization: default, name: %s, spec: {version: 1.0.0, context: /%s, state: PUBLISHED, production: ["http://%s"], tiers: [Unlimited], resources: [{method: GET, path: /items%s}]}}
`, name, name, production, scopes)
}

func churnSubscription(name, state string) string {
	return fmt.Sprintf("{kind: Subscription, organization: default, name: mover-%s, spec: {application: mover, api: %s/1.0.0, tier: Unlimited, state: %s}}\n", name, name, state)
}

// change returns what changes one item after another.
func (w *soakTokens) change() func(context.Context) {
	n := 0
	return func(ctx context.Context) {
		if !w.churn.Load() {
			return
		}
		item, round := w.items[n%len(w.items)], n/len(w.items)
		name := strings.Split(item.path, "/")[1]
		n++
		var next answer
		var do func() error
		switch {
		case strings.HasPrefix(name, "sub"):
			state := "UNBLOCKED"
			if next = (answer{200, ""}); round%2 == 0 {
				state, next = "BLOCKED", answer{401, "900907"}
			}
			do = func() error { return w.apply(ctx, churnSubscription(name, state)) }
		case round%3 == 0:
			next = answer{200, ""}
			do = func() error {
				return w.apply(ctx, churnAPI(name, w.s.Production, false)+"---\n"+churnSubscription(name, "UNBLOCKED"))
			}
		case round%3 == 1:
			next = answer{403, "900910"}
			do = func() error { return w.apply(ctx, churnAPI(name, w.s.Production, true)) }
		default:
			next = answer{404, "404"}
			do = func() error {
				return errors.Join(w.remove(ctx, "/subscriptions/mover-"+name), w.remove(ctx, "/apis/"+name+"/1.0.0"))
			}
		}
		item.mu.Lock()
		item.since = time.Time{}
		item.mu.Unlock()
		for try := 0; ; try++ {
			err := do()
			if err == nil {
				break
			}
			w.retried.Add(1)
			if try == 50 {
				w.s.t.Errorf("%s cannot be changed: %v", name, err)
			}
			if !pause(ctx, 200*time.Millisecond) {
				return
			}
		}
		item.mu.Lock()
		item.now, item.since = next, time.Now()
		item.mu.Unlock()
		w.changes.Add(1)
	}
}

// admin calls the management API as the administrator.
func (w *soakTokens) admin(ctx context.Context, method, path, body string) (int, error) {
	if time.Now().After(w.adminUntil) {
		c, err := rig.ReadClient(w.s.AdminFile(w.s.t))
		if err != nil {
			return 0, err
		}
		value, err := w.token(ctx, c)
		if err != nil {
			return 0, err
		}
		w.adminToken, w.adminUntil = value, time.Now().Add(soakTokenLife/2)
	}
	status, answer, err := w.send(ctx, method, "/api/v1"+path, "application/json", "Bearer "+w.adminToken, body)
	if err == nil && status > 299 {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return status, err
}

func (w *soakTokens) apply(ctx context.Context, manifest string) error {
	documents, err := rig.Documents(manifest)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"documents": documents})
	if err == nil {
		_, err = w.admin(ctx, http.MethodPost, "/apply", string(body))
	}
	return err
}

func (w *soakTokens) remove(ctx context.Context, path string) error {
	status, err := w.admin(ctx, http.MethodDelete, "/organizations/default"+path, "")
	if status == http.StatusNotFound { // an answer was lost
		return nil
	}
	return err
}
