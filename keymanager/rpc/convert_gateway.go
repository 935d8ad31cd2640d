package rpc

import (
	"strings"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

var gatewayKinds = newEnum("kind of gateway part", map[keymanager.GatewayKind]pb.GatewayKind{
	keymanager.GatewayAuthz: pb.GatewayKind_GATEWAY_KIND_AUTHZ,
	keymanager.GatewayXDS:   pb.GatewayKind_GATEWAY_KIND_XDS,
})

var gatewayPhases = newEnum("phase", map[keymanager.GatewayPhase]pb.GatewayPhase{
	keymanager.PhaseSyncing: pb.GatewayPhase_GATEWAY_PHASE_SYNCING,
	keymanager.PhaseLive:    pb.GatewayPhase_GATEWAY_PHASE_LIVE,
	keymanager.PhaseStale:   pb.GatewayPhase_GATEWAY_PHASE_STALE,
	keymanager.PhaseBlind:   pb.GatewayPhase_GATEWAY_PHASE_BLIND,
})

// stateTo writes a report, but not the time of it, which is the receiver's.
func stateTo(s keymanager.GatewayState) (*pb.GatewayState, error) {
	var c converter
	c.named(s.ID)
	return &pb.GatewayState{
		Kind:      write(&c, gatewayKinds, s.Kind),
		Id:        s.ID,
		Group:     s.Group,
		Phase:     write(&c, gatewayPhases, s.Phase),
		Confirmed: positionTo(s.Confirmed),
		Lag:       optionalTo(s.Lag),
		Nodes: each(s.Nodes, func(n keymanager.NodeState) *pb.NodeState {
			return &pb.NodeState{
				Id: text(n.ID), Group: text(n.Group), Version: text(n.Version), Connected: n.Connected,
				Acknowledged: positionTo(n.Acknowledged), Rejected: each(n.Rejected, c.rejectedTo),
			}
		}),
		Rejected: each(s.Rejected, c.rejectedTo),
	}, c.err
}

func stateFrom(m *pb.GatewayState) (keymanager.GatewayState, error) {
	var c converter
	c.named(m.GetId())
	return keymanager.GatewayState{
		Kind:      read(&c, gatewayKinds, m.GetKind()),
		ID:        m.GetId(),
		Group:     m.GetGroup(),
		Phase:     read(&c, gatewayPhases, m.GetPhase()),
		Confirmed: c.positionFrom(m.GetConfirmed()),
		Lag:       c.optionalFrom(m.GetLag()),
		Nodes: each(m.GetNodes(), func(n *pb.NodeState) keymanager.NodeState {
			return keymanager.NodeState{
				ID: n.GetId(), Group: n.GetGroup(), Version: n.GetVersion(), Connected: n.GetConnected(),
				Acknowledged: c.positionFrom(n.GetAcknowledged()), Rejected: each(n.GetRejected(), c.rejectedFrom),
			}
		}),
		Rejected: each(m.GetRejected(), c.rejectedFrom),
	}, c.err
}

// named fails for a report of nobody.
func (c *converter) named(id string) {
	if id == "" {
		c.fail("a report has no id")
	}
}

func (c *converter) rejectedTo(r keymanager.RejectedResource) *pb.RejectedResource {
	return &pb.RejectedResource{
		Node: text(r.Node), Type: text(r.Type), Name: text(r.Name), Api: string(r.API), Reason: text(r.Reason), Since: c.timeTo(r.Since),
	}
}

func (c *converter) rejectedFrom(m *pb.RejectedResource) keymanager.RejectedResource {
	return keymanager.RejectedResource{
		Node: m.GetNode(), Type: m.GetType(), Name: m.GetName(), API: keymanager.APIID(m.GetApi()), Reason: m.GetReason(), Since: c.timeFrom(m.GetSince()),
	}
}

// text makes words that others said fit for the protocol, which takes UTF-8
// alone: a report must not be lost for one of them.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
