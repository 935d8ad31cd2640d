package rpc

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// enum is one enumeration on both sides. What is not in it has no way across.
type enum[N comparable, P ~int32] struct {
	name string
	to   map[N]P
	from map[P]N
}

func newEnum[N comparable, P ~int32](name string, to map[N]P) enum[N, P] {
	from := make(map[P]N, len(to))
	for n, p := range to {
		from[p] = n
	}
	return enum[N, P]{name, to, from}
}

// converter remembers the first thing that cannot be converted. The message or
// noun it was used for must not be used then.
type converter struct{ err error }

func (c *converter) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func write[N comparable, P ~int32](c *converter, e enum[N, P], n N) P {
	p, ok := e.to[n]
	if !ok {
		c.fail("%s %v has no place in the protocol", e.name, n)
	}
	return p
}

func read[N comparable, P ~int32](c *converter, e enum[N, P], p P) N {
	n, ok := e.from[p]
	if !ok {
		c.fail("%s has the value %d, which is not known here", e.name, p)
	}
	return n
}

// understand fails if a message says something that this version does not know
// and must not overlook.
func (c *converter) understand(names []string) {
	if len(names) > 0 {
		c.fail("it says %q, which is not known here and must not be overlooked", names[0])
	}
}

// stringsTo and stringsFrom convert lists; none stands for an empty one.
func stringsTo[S ~string](list []S) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func stringsFrom[S ~string](list []string) []S {
	if len(list) == 0 {
		return nil
	}
	out := make([]S, len(list))
	for i, s := range list {
		out[i] = S(s)
	}
	return out
}

// each converts a list of messages or nouns.
func each[A, B any](list []A, f func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// timeTo writes no message for the zero time.
func (c *converter) timeTo(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	ts := timestamppb.New(t)
	if err := ts.CheckValid(); err != nil {
		c.fail("time: %w", err)
	}
	return ts
}

func (c *converter) timeFrom(ts *timestamppb.Timestamp) time.Time {
	if ts == nil {
		return time.Time{}
	}
	if err := ts.CheckValid(); err != nil {
		c.fail("time: %w", err)
		return time.Time{}
	}
	t := ts.AsTime()
	if t.IsZero() {
		c.fail("a time is set, and zero") // zero has meanings such as "never"
	}
	return t
}

func (c *converter) durationFrom(d *durationpb.Duration) time.Duration {
	if d == nil {
		c.fail("a duration is missing")
		return 0
	}
	v := d.AsDuration()
	if err := d.CheckValid(); err != nil {
		c.fail("duration: %w", err)
	} else if back := durationpb.New(v); back.Seconds != d.Seconds || back.Nanos != d.Nanos {
		c.fail("a duration of %d s is too long", d.Seconds)
	}
	return v
}

// optionalTo writes no message for the zero duration.
func optionalTo(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func (c *converter) optionalFrom(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return c.durationFrom(d)
}

func positionTo(p keymanager.Position) *pb.Position {
	if p == (keymanager.Position{}) {
		return nil
	}
	out := &pb.Position{Seq: p.Seq}
	if p.Epoch != (keymanager.Epoch{}) {
		out.Epoch = p.Epoch[:]
	}
	return out
}

func (c *converter) positionFrom(p *pb.Position) keymanager.Position {
	out := keymanager.Position{Seq: p.GetSeq()}
	c.bytes16("epoch", out.Epoch[:], p.GetEpoch())
	return out
}

func idTo(id keymanager.TokenID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

func (c *converter) idFrom(b []byte) (id keymanager.TokenID) {
	c.bytes16("token id", id[:], b)
	return id
}

// bytes16 reads 16 bytes that are not all zero, or none.
func (c *converter) bytes16(what string, dst, src []byte) {
	if len(src) == 0 {
		return
	}
	if len(src) != len(dst) {
		c.fail("%s has %d bytes, not %d", what, len(src), len(dst))
		return
	}
	copy(dst, src)
}

func (c *converter) prefixTo(p netip.Prefix) string {
	if !p.IsValid() {
		c.fail("a network is not valid")
	}
	return p.String()
}

func (c *converter) prefixFrom(s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		c.fail("network: %w", err)
	}
	return p
}
