package rpc

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// FuzzConvert reads any bytes as each message: no panic, and whatever is
// accepted comes back the same after another journey.
func FuzzConvert(f *testing.F) {
	for _, m := range []proto.Message{
		sampleVerdict(),
		&pb.ValidateRequest{Kind: 1, Value: []byte("x"), Api: "a"},
		&pb.Change{Mark: &pb.Mark{Type: 3}, Item: &pb.Change_Api{Api: &pb.API{Id: "a"}}},
		&pb.Event{Mark: &pb.Mark{Type: 3}, Item: &pb.Event_Stale{Stale: &pb.Stale{What: &pb.Stale_User{User: "u"}}}},
		&pb.GatewayState{Id: "a", Kind: 1, Phase: 1, Nodes: []*pb.NodeState{{}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var verdict pb.Verdict
		if proto.Unmarshal(b, &verdict) == nil {
			if v, err := verdictFrom(&verdict); err == nil {
				if v.Reason == keymanager.ReasonActive && v.Grant == nil {
					t.Fatal("active without a grant")
				}
				journey(t, *v, verdictJourney)
			}
		}
		var query pb.ValidateRequest
		if proto.Unmarshal(b, &query) == nil {
			if q, err := queryFrom(&query); err == nil {
				journey(t, q, queryJourney)
			}
		}
		var change pb.Change
		if proto.Unmarshal(b, &change) == nil {
			if v, broken, err := changeFrom(&change); err == nil && broken == nil {
				journey(t, v, changeJourney)
			}
		}
		var event pb.Event
		if proto.Unmarshal(b, &event) == nil {
			if e, err := eventFrom(&event); err == nil {
				journey(t, e, eventJourney)
			}
		}
		var state pb.GatewayState
		if proto.Unmarshal(b, &state) == nil {
			if s, err := stateFrom(&state); err == nil {
				journey(t, s, stateJourney)
			}
		}
	})
}
