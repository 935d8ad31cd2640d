package admin

import (
	"context"
	"net/http"
	"time"

	"tollgate/keymanager"
)

// Gateway is one gateway part, an authz or an xds, as it reports itself.
type Gateway struct {
	Kind      string     `json:"kind" enum:"authz,xds"`
	ID        string     `json:"id"`
	Group     string     `json:"group,omitempty"`
	State     string     `json:"state" enum:"SYNCING,LIVE,STALE,BLIND,GONE" doc:"GONE: it has not reported for five seconds; it is listed for an hour"`
	Confirmed string     `json:"confirmed" doc:"the position in the log up to which everything has taken effect"`
	Lag       string     `json:"lag" doc:"how long before that (GONE: before now) this was known to be the end of the log" example:"400ms"`
	Nodes     []Node     `json:"nodes,omitempty" doc:"of an xds: its Envoys"`
	Rejected  []Rejected `json:"rejected,omitempty" doc:"of an xds: APIs whose newest content is in use nowhere"`
	At        time.Time  `json:"at" doc:"when it reported"`
}

// Node is one Envoy.
type Node struct {
	ID           string     `json:"id"`
	Group        string     `json:"group,omitempty"`
	Version      string     `json:"version,omitempty"`
	Connected    bool       `json:"connected"`
	Acknowledged string     `json:"acknowledged" doc:"the position in the log up to which it has taken everything"`
	Rejected     []Rejected `json:"rejected,omitempty"`
}

// Rejected is one resource that is not in use.
type Rejected struct {
	Node   string    `json:"node,omitempty" doc:"none: quarantined before it was sent"`
	Type   string    `json:"type"`
	Name   string    `json:"name"`
	API    string    `json:"api,omitempty" doc:"the id of the API"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func mountGateways(m *mount) {
	s := m.server
	route(m, operation{id: "list-gateways", method: http.MethodGet, path: "/gateways", tag: "Gateway", summary: "List what runs what: authz, xds and their Envoys"},
		func(_ context.Context, in *listIn) (*pageOut[Gateway], error) {
			var states []keymanager.GatewayState
			if s.Gateways != nil {
				states = s.Gateways.States()
			}
			out := &pageOut[Gateway]{Body: listOf[Gateway](nil, len(states), in.PageQuery)}
			for _, g := range cut(states, in.PageQuery) {
				out.Body.Items = append(out.Body.Items, showGateway(&g))
			}
			return out, nil
		})
}

func showGateway(g *keymanager.GatewayState) Gateway {
	out := Gateway{
		Kind: string(g.Kind), ID: g.ID, Group: g.Group, State: string(g.Phase),
		Confirmed: g.Confirmed.String(), Lag: g.Lag.Round(time.Millisecond).String(), Rejected: showRejected(g.Rejected), At: g.At,
	}
	for _, n := range g.Nodes {
		out.Nodes = append(out.Nodes, Node{
			ID: n.ID, Group: n.Group, Version: n.Version, Connected: n.Connected,
			Acknowledged: n.Acknowledged.String(), Rejected: showRejected(n.Rejected),
		})
	}
	return out
}

func showRejected(list []keymanager.RejectedResource) []Rejected {
	var out []Rejected
	for _, r := range list {
		out = append(out, Rejected{Node: r.Node, Type: r.Type, Name: r.Name, API: string(r.API), Reason: r.Reason, Since: r.Since})
	}
	return out
}
