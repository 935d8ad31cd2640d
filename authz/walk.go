package authz

import (
	"context"
	"errors"
	"time"

	"tollgate/authz/apis"
	"tollgate/authz/cache"
	"tollgate/authz/revoked"
	"tollgate/keymanager"
)

// decide is the walk of one request: the API of its route, the request against
// the API, the credential at the key manager or its caches, and the facts
// against the resource. Uncached APIs never see the caches of validator.
func (s *Server) decide(ctx context.Context, r *Request, now time.Time, validator keymanager.Validator) Decision {
	api, why := s.api(ctx, r, now)
	if why != allowed {
		return Decision{Reason: why}
	}
	d, asks := begin(r, api, s.tags)
	trust := s.trusted(api, now)
	switch {
	case trust == trustNothing, trust == trustAnswers && d.Reason == allowedAnonymous:
		return Decision{Reason: blind, API: api}
	case !asks:
	case trust == trustAnswers || api.Uncached:
		s.ask(ctx, r, &d, s.uncached)
	default:
		s.ask(ctx, r, &d, validator)
	}
	return d
}

// api finds the API of the route that Envoy matched, as new as the route.
func (s *Server) api(ctx context.Context, r *Request, now time.Time) (*apis.API, Reason) {
	switch {
	case !s.apis.Loaded() || !s.revoked.Loaded():
		return nil, syncing
	case r.API == "": // a route that was pushed without its settings
		return nil, noAPI
	case r.badRev:
		return nil, malformedCheck
	case s.group != "" && r.Gateway != "" && r.Gateway != s.group:
		return nil, wrongGateway
	}
	api := s.apis.Find(r.API)
	switch {
	case api == nil && s.trusted(nil, now) == trustNothing:
		return nil, blind // it may have been published since
	case api == nil || api.Rev < r.Rev:
		return s.catchUp(ctx, r)
	}
	if api.Rev > r.Rev && r.Rev != 0 { // 0: a route that was not made by xds, and will not follow
		s.record.ahead.add()
	}
	return api, allowed
}

// catchUp waits until the catalog is as new as the route. An API that is not
// there although all is known up to then has been removed; Envoy will say so
// too in a moment.
func (s *Server) catchUp(ctx context.Context, r *Request) (*apis.API, Reason) {
	if s.apis.Position().Seq < r.Rev {
		s.record.behind.add()
		begun := s.now()
		ctx, cancel := context.WithTimeout(ctx, s.catalogWait)
		defer cancel()
		reached := s.apis.Await(ctx, r.Rev)
		s.record.stages[catalogWait].observe(s.now().Sub(begun))
		if !reached {
			return nil, behind
		}
	}
	if api := s.apis.Find(r.API); api != nil {
		return api, allowed
	}
	return nil, unknownAPI
}

// mostQuestions is how often the key manager is asked at most about one request. While it
// answers, an event may come that outdates the answer, and another one while it
// answers again.
const mostQuestions = 5

// ask gets the facts about the credential and lets them decide. Facts that an
// event has outdated are asked for again.
func (s *Server) ask(ctx context.Context, r *Request, d *Decision, validator keymanager.Validator) {
	q := keymanager.Query{Credential: d.Credential, API: d.API.ID}
	for try := 1; ; try++ {
		begun := s.now()
		v, err := validator.Validate(ctx, q)
		now := s.now()
		s.record.stages[verdictWait].observe(now.Sub(begun))
		if err != nil {
			d.Reason = s.unanswered(err, now)
			return
		}
		if v == nil {
			d.Reason = unknownVerdict
			return
		}
		s.contact.sees(v.Head, s.revoked.Position())
		since := s.revoked.Check(v, q.API)
		if since == revoked.Stale && try < mostQuestions {
			q.Since = s.revoked.Newer(v)
			continue
		}
		d.finish(r, v, since, s.contact.clocks(now))
		return
	}
}

// unanswered says why nothing is known. An outage is never a denial.
func (s *Server) unanswered(err error, now time.Time) Reason {
	if errors.Is(err, cache.ErrBusy) {
		return overloaded
	}
	s.record.failed(err, s.contact.since(now))
	return keyManagerUnavailable
}
