//go:build faults

package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// Two versions of Tollgate next to each other: every part is replaced under
// load, in turn, by the next version and then by the one before again, on the
// database of the newer one. Nobody notices.
func TestFaultFleetUpgrade(t *testing.T) {
	old, name := rig.Release(t)
	t.Logf("from %s and back", name)
	w := settle(t, rig.NewFleetOf(t, old, map[string][]string{"keymanager": {"OPS_DRAIN_WAIT=500ms"}}))
	w.lines = 100 // the older one is as it was
	b := w.newBalancer(t, 100)
	b.load.Flows(5, nil)

	t.Run("F60 migration under load, next to the old binary", func(t *testing.T) {
		w.takeBack(t)
		users := w.startUsers(t, 2, b.gateways)
		users.goOn(t, 10)
		from := time.Now()
		out, stderr, err := w.Run(rig.Binary(t), "migrate", "up", "--config", w.KeyManagers[0].Config())
		if err != nil || !strings.Contains(out+stderr, "applied: "+newestMigration) {
			t.Fatalf("%v\n%s%s", err, out, stderr)
		}
		users.goOn(t, 20)
		b.works(t, from, users)
	})
	for _, step := range []struct {
		name  string
		nodes []*rig.Node
		to    string
	}{
		{"new key managers with old xds, authz and bootstraps", w.KeyManagers, ""},
		{"new xds with old authz and bootstraps", w.XDS, ""},
		{"new authz with old bootstraps", w.Authz, ""},
		{"new everything", w.Envoys, ""},
		{"old key managers with new xds, authz and bootstraps", w.KeyManagers, old},
		{"old xds with new authz and bootstraps", w.XDS, old},
		{"new key managers with old xds and new authz", w.KeyManagers, ""},
		{"old authz with new bootstraps", w.Authz, old},
		{"old everything, on the new database", append(append([]*rig.Node{}, w.KeyManagers...), w.Envoys...), old},
	} {
		t.Run("F60 "+step.name, func(t *testing.T) {
			users := w.startUsers(t, 2, b.gateways)
			users.goOn(t, 10)
			from := time.Now()
			for _, n := range step.nodes {
				n.Program = step.to
				b.exchange(t, n, users)
			}
			users.goOn(t, 10)
			b.works(t, from, users)
		})
	}
	b.load.End()
}

// newestMigration is what a migration under load applies.
const newestMigration = "0007_usage.sql"

// takeBack undoes the newest migration, so that there is one to apply: the older
// version has mostly the same.
func (w *world) takeBack(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("../../../migrations/postgres/*.sql")
	if err != nil || len(files) == 0 || filepath.Base(slices.Max(files)) != newestMigration {
		t.Fatalf("the newest of %q is not %s: say here how to undo it (%v)", files, newestMigration, err)
	}
	w.Postgres.Exec("DROP TABLE usage_record; DELETE FROM goose_db_version WHERE version_id = 7")
}

// works checks that everything since from was right, and that changes are felt.
func (b *balancer) works(t *testing.T, from time.Time, users *users) {
	t.Helper()
	w := b.w
	w.issueAndRevoke(t, nil, w.Gateways)
	tok := w.Issue(t, w.client)
	const items = "/fresh/1.0.0/items"
	w.admin.Apply(t, oneAPI("fresh", "PUBLISHED", w.Production)+subscribed("fresh", "UNBLOCKED"))
	w.everywhere(t, items, tok, http.StatusOK, "")
	w.admin.Apply(t, subscribed("fresh", "BLOCKED"))
	w.everywhere(t, items, tok, http.StatusUnauthorized, "900907")
	w.admin.Apply(t, subscribed("fresh", "UNBLOCKED")+oneAPI("fresh", "CREATED", w.Production))
	w.everywhere(t, items, tok, http.StatusNotFound, "404")

	b.unnoticed(t, from, users)
}

// Key managers that end in the middle of what they do: an answer holds, and
// what had no answer was done or not, not half.
func TestFaultFleetInterrupted(t *testing.T) {
	w := newWorld(t, map[string][]string{"keymanager": {"OPS_DRAIN_TIME=100ms"}})
	load := rig.StartLoad(t, 50, w.shots())
	t.Run("F63 SIGTERM in the middle of issue and revoke", func(t *testing.T) {
		users := w.startUsers(t, 12, func() []string { return w.Gateways })
		users.goOn(t, 20)
		for i := range 8 {
			n := w.KeyManagers[i%len(w.KeyManagers)]
			n.Restart()
			users.goOn(t, 20)
		}
		users.check(t)
		w.onceInLog(t)
		load.Flows(5, nil)
		load.NoneWrong(time.Time{})
	})
	load.End()
}
