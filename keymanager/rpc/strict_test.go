package rpc

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

func sampleVerdict() *pb.Verdict {
	m, err := verdictTo(&keymanager.Verdict{
		Reason: keymanager.ReasonActive, Kind: keymanager.AccessToken, TokenID: keymanager.TokenID{1}, IssuedAt: time.Unix(1, 0),
		Grant: &keymanager.Grant{KeyType: keymanager.Production, Subscription: &keymanager.GrantSubscription{State: keymanager.Unblocked}},
	})
	if err != nil {
		panic(err)
	}
	return m
}

// TestVerdictIsRead: what is not understood is no verdict, and never an active
// one.
func TestVerdictIsRead(t *testing.T) {
	if _, err := verdictFrom(sampleVerdict()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pb.Verdict){
		"no reason":                func(m *pb.Verdict) { m.Reason = 0 },
		"a reason of the future":   func(m *pb.Verdict) { m.Reason = 99 },
		"a kind of the future":     func(m *pb.Verdict) { m.Kind = 99 },
		"a negative enum":          func(m *pb.Verdict) { m.Reason = -1 },
		"active without grant":     func(m *pb.Verdict) { m.Grant = nil },
		"no key type":              func(m *pb.Verdict) { m.Grant.KeyType = 0 },
		"a key type of the future": func(m *pb.Verdict) { m.Grant.KeyType = 9 },
		"no user type":             func(m *pb.Verdict) { m.Grant.UserType = 0 },
		"no subscription state":    func(m *pb.Verdict) { m.Grant.Subscription.State = 0 },
		"another state":            func(m *pb.Verdict) { m.Grant.Subscription.State = 77 },
		"a short token id":         func(m *pb.Verdict) { m.TokenId = []byte{1, 2} },
		"a long family":            func(m *pb.Verdict) { m.Family = make([]byte, 17) },
		"a long epoch":             func(m *pb.Verdict) { m.Head = &pb.Position{Epoch: make([]byte, 32)} },
		"no network":               func(m *pb.Verdict) { m.Grant.Networks = []string{"10.0.0.0/99"} },
		"an empty network":         func(m *pb.Verdict) { m.Grant.Networks = []string{""} },
		"a time out of range":      func(m *pb.Verdict) { m.ExpiresAt = &timestamppb.Timestamp{Seconds: 1 << 60} },
		"expiry that reads never":  func(m *pb.Verdict) { m.ExpiresAt = timestamppb.New(time.Time{}) },
		"something unheard of":     func(m *pb.Verdict) { m.MustUnderstand = []string{"certificate"} },
	} {
		m := sampleVerdict()
		change(m)
		if v, err := verdictFrom(m); err == nil || v != nil {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	if v, err := verdictFrom(nil); err == nil || v != nil {
		t.Errorf("none: %+v, %v", v, err)
	}
}

// TestAPIIsRead: one that is not understood is out of use alone.
func TestAPIIsRead(t *testing.T) {
	sample := func() *pb.API {
		m, err := apiTo(&keymanager.API{ID: "a", Organization: "acme", Protocol: keymanager.HTTP1, State: keymanager.StatePublished, Position: 7,
			Security: []keymanager.SecurityScheme{keymanager.SchemeAPIKey}, Resources: []keymanager.Resource{{Method: "GET", Path: "/", AuthType: keymanager.AuthAny}}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, change := range map[string]func(*pb.API){
		"a protocol of the future": func(m *pb.API) { m.Protocol = 99 },
		"no protocol":              func(m *pb.API) { m.Protocol = 0 },
		"no state":                 func(m *pb.API) { m.State = 0 },
		"a state of the future":    func(m *pb.API) { m.State = 99 },
		"a type of the future":     func(m *pb.API) { m.Resources[0].AuthType = 99 },
		"no type":                  func(m *pb.API) { m.Resources[0].AuthType = 0 },
		"a scheme of the future":   func(m *pb.API) { m.Security[0] = 99 },
		"no cache mode":            func(m *pb.API) { m.Cache = 0 },
		"no timeout":               func(m *pb.API) { m.Timeout = nil },
		"a timeout too long":       func(m *pb.API) { m.Timeout = &durationpb.Duration{Seconds: 1 << 38} },
		"no duration":              func(m *pb.API) { m.MaxStale = &durationpb.Duration{Seconds: 1, Nanos: -1} },
		"a retry of the future":    func(m *pb.API) { m.Backend = &pb.Backend{Retry: &pb.Retry{On: []pb.RetryCondition{99}}} },
		"something unheard of":     func(m *pb.API) { m.MustUnderstand = []string{"x"} },
	} {
		m := &pb.Change{Mark: &pb.Mark{Type: pb.MessageType_MESSAGE_TYPE_ITEM, At: &pb.Position{Seq: 7}}, Item: &pb.Change_Api{Api: sample()}}
		change(m.GetApi())
		v, broken, err := changeFrom(m)
		if err != nil || broken == nil || v.API == nil || v.API.ID != "a" || v.API.Organization != "acme" || v.API.Routed() || len(v.API.Resources) != 0 || v.At.Seq != 7 {
			t.Errorf("%s: %+v, broken %v, %v", name, v.API, broken, err)
		}
	}
	// What the key manager itself cannot write is refused by every reader.
	unknown := keymanager.Change{Mark: keymanager.Mark{Type: keymanager.Item}, API: &keymanager.API{ID: "a", State: "SLEEPING", Protocol: keymanager.HTTP1}}
	m, broken, err := changeTo(unknown)
	if err != nil || broken == nil {
		t.Fatal(broken, err)
	}
	if v, broken, err := changeFrom(m); err != nil || broken == nil || v.API.ID != "a" || v.API.Routed() {
		t.Errorf("%+v, broken %v, %v", v.API, broken, err)
	}
}

// TestStreamMessagesAreRead: what is not understood ends the stream.
func TestStreamMessagesAreRead(t *testing.T) {
	mark := &pb.Mark{Type: pb.MessageType_MESSAGE_TYPE_ITEM}
	for name, m := range map[string]*pb.Change{
		"nothing":           {},
		"no mark":           {Item: &pb.Change_RemovedApi{RemovedApi: "a"}},
		"a mark of later":   {Mark: &pb.Mark{Type: 9}},
		"no item":           {Mark: mark},
		"an API of no id":   {Mark: mark, Item: &pb.Change_Api{Api: &pb.API{}}},
		"none removed":      {Mark: mark, Item: &pb.Change_RemovedApi{}},
		"a tier, no unit":   {Mark: mark, Item: &pb.Change_Tier{Tier: &pb.Tier{Name: "Gold"}}},
		"a heartbeat, full": {Mark: &pb.Mark{Type: pb.MessageType_MESSAGE_TYPE_HEARTBEAT}, Item: &pb.Change_RemovedApi{RemovedApi: "a"}},
	} {
		if v, _, err := changeFrom(m); err == nil {
			t.Errorf("change, %s: %+v", name, v)
		}
	}
	for name, m := range map[string]*pb.Event{
		"nothing":           {},
		"no item":           {Mark: mark},
		"nobody dead":       {Mark: mark, Item: &pb.Event_Dead{Dead: &pb.Dead{}}},
		"nobody known dead": {Mark: mark, Item: &pb.Event_Dead{Dead: &pb.Dead{Who: &pb.Dead_TokenId{}}}},
		"a short id":        {Mark: mark, Item: &pb.Event_Dead{Dead: &pb.Dead{Who: &pb.Dead_TokenId{TokenId: []byte{1}}}}},
		"nothing stale":     {Mark: mark, Item: &pb.Event_Stale{Stale: &pb.Stale{}}},
		"an empty user":     {Mark: mark, Item: &pb.Event_Stale{Stale: &pb.Stale{What: &pb.Stale_User{}}}},
		"a heartbeat, full": {Mark: &pb.Mark{Type: pb.MessageType_MESSAGE_TYPE_HEARTBEAT}, Item: &pb.Event_Stale{Stale: &pb.Stale{What: &pb.Stale_User{User: "u"}}}},
	} {
		if v, err := eventFrom(m); err == nil {
			t.Errorf("event, %s: %+v", name, v)
		}
	}
	for name, m := range map[string]*pb.GatewayState{
		"nothing":  {},
		"no id":    {Kind: 1, Phase: 1},
		"no kind":  {Id: "a", Phase: 1},
		"no phase": {Id: "a", Kind: 1},
		"others":   {Id: "a", Kind: 9, Phase: 9},
	} {
		if v, err := stateFrom(m); err == nil {
			t.Errorf("report, %s: %+v", name, v)
		}
	}
}

// TestNewerVersion: fields that are not known here do not disturb.
func TestNewerVersion(t *testing.T) {
	b, err := proto.Marshal(sampleVerdict())
	if err != nil {
		t.Fatal(err)
	}
	b = protowire.AppendTag(b, 99, protowire.BytesType)
	b = protowire.AppendString(b, "of version N+1")
	var m pb.Verdict
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if v, err := verdictFrom(&m); err != nil || v.Reason != keymanager.ReasonActive {
		t.Errorf("%+v, %v", v, err)
	}
	// A kind of event that is not known must not be overlooked.
	b, err = proto.Marshal(&pb.Event{Mark: &pb.Mark{Type: pb.MessageType_MESSAGE_TYPE_ITEM}})
	if err != nil {
		t.Fatal(err)
	}
	b = protowire.AppendTag(b, 50, protowire.BytesType)
	b = protowire.AppendString(b, "")
	var e pb.Event
	if err := proto.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	if v, err := eventFrom(&e); err == nil {
		t.Errorf("%+v", v)
	}
}

var update = flag.Bool("update", false, "add what is new to testdata/wire.txt")

// TestWireOnlyGrows compares the protocol with what it ever was: nothing that
// stands in testdata/wire.txt changes or goes.
func TestWireOnlyGrows(t *testing.T) {
	const file = "testdata/wire.txt"
	var now []string
	var messages func(list protoreflect.MessageDescriptors)
	messages = func(list protoreflect.MessageDescriptors) {
		for i := range list.Len() {
			m := list.Get(i)
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				typ := f.Kind().String()
				if f.Message() != nil {
					typ = string(f.Message().FullName())
				} else if f.Enum() != nil {
					typ = string(f.Enum().FullName())
				}
				oneof := ""
				if o := f.ContainingOneof(); o != nil {
					oneof = " of " + string(o.Name())
				}
				now = append(now, fmt.Sprintf("%s.%s = %d %s %s%s", m.Name(), f.Name(), f.Number(), f.Cardinality(), typ, oneof))
			}
			messages(m.Messages())
		}
	}
	d := pb.File_keymanager_proto
	messages(d.Messages())
	for i := range d.Enums().Len() {
		e := d.Enums().Get(i)
		for j := range e.Values().Len() {
			now = append(now, fmt.Sprintf("%s.%s = %d", e.Name(), e.Values().Get(j).Name(), e.Values().Get(j).Number()))
		}
	}
	for i := range d.Services().Len() {
		s := d.Services().Get(i)
		for j := range s.Methods().Len() {
			m := s.Methods().Get(j)
			now = append(now, fmt.Sprintf("%s.%s(%s) %s %t", s.FullName(), m.Name(), m.Input().Name(), m.Output().Name(), m.IsStreamingServer()))
		}
	}
	before, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(before)), "\n") {
		if line != "" && !slices.Contains(now, line) {
			t.Errorf("the protocol no longer has %q: other versions speak it", line)
		}
	}
	content := strings.Join(now, "\n") + "\n"
	if content == string(before) || t.Failed() {
		return
	}
	if !*update {
		t.Fatal("the protocol has grown: go test ./keymanager/rpc -run WireOnlyGrows -update")
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
