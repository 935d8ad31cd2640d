//go:build !short

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/cmd/tollgate/e2e/rig"
)

// fleetStale is two APIs with a patience of their own, when authz hears nothing.
const fleetStale = `
{kind: API, organization: default, name: strict, spec: {version: 1.0.0, context: /strict, state: PUBLISHED, production: [PRODUCTION_URL],
  tiers: [Gold], maxStale: 0s, resources: [{method: GET, path: /items}]}}
---
{kind: API, organization: default, name: patient, spec: {version: 1.0.0, context: /patient, state: PUBLISHED, production: [PRODUCTION_URL],
  tiers: [Gold], maxStale: 600s, resources: [{method: GET, path: /items}]}}
---
{kind: Subscription, organization: default, name: buyer-strict, spec: {application: buyer, api: strict/1.0.0, tier: Gold}}
---
{kind: Subscription, organization: default, name: buyer-patient, spec: {application: buyer, api: patient/1.0.0, tier: Gold}}
`

// Where the world of a partition is asked besides shopItems, whose API is decided
// without a word from the key manager for max_stale (5 s): APIs that are so for no
// time, and for ten minutes.
const (
	strictItems  = "/strict/1.0.0/items"
	patientItems = "/patient/1.0.0/items"
)

// Gateways without any key manager, and gateways that begin with nothing.
func TestFaultFleetPartition(t *testing.T) {
	w := newWorld(t, map[string][]string{"authz": {"AUTHZ_MAX_STALE=5s"}})
	w.admin.Apply(t, strings.ReplaceAll(fleetStale, "PRODUCTION_URL", "http://"+w.Production))
	t.Run("F10 cut from every key manager", w.cutOff)
	t.Run("F22 10,000 revocations and an empty memory", w.emptyMemory)
}

func (w *world) cutOff(t *testing.T) {
	victim := w.Issue(t, w.client)
	cold := w.Issue(t, w.client) // no gateway has seen it
	var shots []rig.Shot
	for _, gateway := range w.Gateways {
		for _, path := range []string{shopItems, strictItems, patientItems} {
			shots = append(shots,
				rig.Shot{Name: "good " + path, Gateway: gateway, Path: path, Header: rig.Bearer(w.good), Status: 200},
				rig.Shot{Name: "victim " + path, Gateway: gateway, Path: path, Header: rig.Bearer(victim), Status: 200})
		}
	}
	load := rig.StartLoad(t, 90, shots)
	load.Flows(5, nil)
	w.told(t, "LIVE")

	cut := time.Now()
	for _, wire := range w.between("authz", "keymanager") {
		wire.Cut()
	}
	w.revoke(t, w.Web[1], victim)
	// What is not known is not decided, and what is known for max_stale.
	for _, gateway := range w.Gateways {
		for _, path := range []string{strictItems, shopItems} {
			for _, token := range []string{w.good, victim, cold} {
				w.at(t, []string{gateway}, path, token, 503, "900900")
			}
		}
		w.at(t, []string{gateway}, patientItems, cold, 503, "900900")
	}
	blind := time.Now()
	// Key managers say who has fallen silent, and that all others are well.
	w.told(t, "GONE")
	for _, n := range w.Authz {
		notReady(t, n, "no word from the key manager")
		if phase, err := n.Metric(`tollgate_authz_phase{phase="BLIND"}`); err != nil || phase != "1" {
			t.Errorf("%s counts as blind: %q, %v", n.Name, phase, err)
		}
	}
	load.Flows(5, func(s *rig.Shot) bool { return s.Path == patientItems })

	heal := time.Now()
	for _, wire := range w.between("authz", "keymanager") {
		wire.Heal()
	}
	for _, n := range w.Authz {
		n.Ready()
	}
	for _, path := range []string{shopItems, strictItems, patientItems} {
		w.everywhere(t, path, victim, 401, "900901")
		w.everywhere(t, path, cold, 200, "")
	}
	healed := time.Now()
	load.Flows(5, func(s *rig.Shot) bool { return strings.HasPrefix(s.Name, "good") })
	w.told(t, "LIVE")
	load.End()

	served := map[string]time.Time{} // for the last time while cut off, by gateway and path
	for _, c := range load.Calls(time.Time{}) {
		good, never := strings.HasPrefix(c.Shot.Name, "good"), c.Shot.Path != patientItems
		where := c.Shot.Gateway + c.Shot.Path
		if c.Status == 200 && c.Start.Before(heal) && c.Start.After(served[where]) {
			served[where] = c.Start
		}
		switch {
		case c.Judge() == rig.Unavailable: // when it must be and when not is told by the waits above
		case c.Status == 200 && never && c.Start.After(blind) && c.End.Before(heal):
			t.Errorf("%s is served later than max_stale", c.Shot.Name)
		case c.Status == 200 && good:
		case c.Status == 200 && never && c.Start.After(blind):
			t.Errorf("%s is served by an authz that had been blind", c.Shot.Name)
		case c.Status == 200 && c.Start.Before(healed): // nobody could know
		case c.Status == 401 && c.Code == "900901" && !good && c.End.After(cut):
		default:
			t.Errorf("%s: %d %s", c.Shot.Name, c.Status, c.Code)
		}
	}
	for _, gateway := range w.Gateways {
		strict, shop, patient := served[gateway+strictItems].Sub(cut), served[gateway+shopItems].Sub(cut), served[gateway+patientItems].Sub(cut)
		if strict >= shop || shop >= patient {
			t.Errorf("at %s the strict API is served for %v, the shop for %v, the patient one for %v", gateway, strict, shop, patient)
		}
	}
	load.NoneHangs(time.Time{}, 10*time.Second, nil)
	t.Logf("%s; refused %v after the end of the fault", load.Summary(time.Time{}), healed.Sub(heal))
}

// between returns the wires from the nodes of one role to those of another.
func (w *world) between(from, to string) []*rig.Wire {
	var out []*rig.Wire
	for name, wire := range w.Wires {
		if a, b, _ := strings.Cut(name, ">"); strings.HasPrefix(a, from) && strings.HasPrefix(b, to) {
			out = append(out, wire)
		}
	}
	return out
}

// told waits until every key manager, asked for the gateways, says that each
// authz is in this phase, and that both xds with all Envoys live; and none of
// those that are there lags by more than a heartbeat or a few. Then the table
// that an operator sees must say the same.
func (w *world) told(t *testing.T, phase string) {
	t.Helper()
	for _, address := range w.Web {
		admin := w.admin.At(address)
		rig.Eventually(t, fmt.Sprintf("the key manager at %s says that authz is %s", address, phase), func() error {
			var list struct {
				Items []struct {
					Kind, ID, Group, State, Lag string
					Nodes                       []struct{ Connected bool }
				} `json:"items"`
			}
			admin.Must(t, http.MethodGet, "/gateways?limit=100", nil, &list)
			authzs, envoys := 0, 0
			for _, g := range list.Items {
				lag, err := time.ParseDuration(g.Lag)
				if err != nil {
					return fmt.Errorf("lag of %s: %w", g.ID, err)
				}
				want := "LIVE"
				if g.Kind == "authz" {
					authzs++
					want = phase
				}
				for _, n := range g.Nodes {
					if n.Connected {
						envoys++
					}
				}
				if late := lag > 3*time.Second; g.State != want || late != (want == "GONE") {
					return fmt.Errorf("%s is %s and lags by %s", g.ID, g.State, g.Lag)
				}
			}
			xds := len(w.XDS) * len(w.Envoys) // one report for each gateway group
			if authzs != len(w.Authz) || len(list.Items) != authzs+xds || envoys != len(w.Envoys) {
				return fmt.Errorf("%d parts, %d authz, %d Envoys", len(list.Items), authzs, envoys)
			}
			return nil
		})
		table, stderr, err := w.Run(rig.Binary(t), "get", "gateways", "--server", "http://"+address, "--credentials", w.AdminFile(t))
		if err != nil {
			t.Fatalf("tollgate get gateways: %v %s", err, stderr)
		}
		shown := 0
		for line := range strings.Lines(table) {
			if f := strings.Fields(line); len(f) > 4 && f[0] == "authz" && f[3] == phase {
				shown++
			}
		}
		if shown != len(w.Authz) {
			t.Errorf("the table of %s shows %d authz that are %s:\n%s", address, shown, phase, table)
		}
	}
}
