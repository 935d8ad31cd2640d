package authz

import (
	"context"
	"errors"
	"runtime"
	"time"

	"tollgate/keymanager"
)

// watchdogTicks is how many ticks of its own a probe may last. Time is counted
// in ticks that were seen, so that a process which was stopped for an hour is
// not taken for one that hung for an hour.
const watchdogTicks = 10

// ErrHung is what Run returns when decisions hang. The process must end at once
// and without draining: Envoy waits for answers on the connections that a hung
// process holds, instead of asking its successor.
var ErrHung = errors.New("authz: decisions hang")

// watch probes the decision path until ctx ends. It returns ErrHung, and has
// said so before, when a probe does not end.
func (s *Server) watch(ctx context.Context) error {
	tick := time.NewTicker(s.watchdog / watchdogTicks)
	defer tick.Stop()
	var ended chan struct{}
	for missed := 0; missed < watchdogTicks; {
		if ended == nil {
			ended = make(chan struct{})
			go func() {
				defer close(ended)
				_ = guard(ctx, func(ctx context.Context) error { s.probe(ctx); return nil }) // a panic is no hang
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case <-ended:
			ended, missed = nil, 0
		default:
			missed++
		}
	}
	s.hung()
	return ErrHung
}

// probe is a decision that asks nobody: it takes every lock that a decision
// takes, and waits for nothing that a decision may wait for, such as the key
// manager. Nothing of it is counted.
func (s *Server) probe(ctx context.Context) {
	var r Request
	if !r.parse("") {
		r = Request{}
	}
	r.API = "probe"
	d := s.decide(ctx, &r, s.now(), s.validator)
	_ = s.answer(&r, &d)
	_ = s.revoked.Check(&keymanager.Verdict{TokenID: keymanager.TokenID{1}, Family: keymanager.TokenID{1}, Grant: &keymanager.Grant{}}, r.API)
	_ = s.tags.Check(keymanager.AccessToken, "probe")
	if cell, ok := s.gate.try(); ok {
		s.gate.leave(cell)
	}
	if v, ok := s.validator.(interface{ Probe() }); ok {
		v.Probe()
	}
}

// hung tells of a hang, unless the log hangs too, and then tells the owner of
// the process.
func (s *Server) hung() {
	told := make(chan struct{})
	go func() {
		defer close(told)
		stacks := make([]byte, 256<<10)
		stacks = stacks[:runtime.Stack(stacks, true)]
		s.log.Error("decisions hang: the process has to end, and to be started again", "for", s.watchdog, "goroutines", string(stacks))
	}()
	select {
	case <-told:
	case <-time.After(time.Second):
	}
	if s.onHung != nil {
		s.onHung()
	}
}
