package authz

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/keymanager"
)

// recorder counts and logs decisions. Nothing that a client wrote becomes a
// label, and nothing secret is logged.
type recorder struct {
	log       *slog.Logger
	decisions [numReasons]counter
	stages    [numStages]histogram

	ahead, behind counter // routes older and newer than the catalog here
	strangers     counter // callers that are refused in the handshake
	complained    atomic.Int64
}

// stage is a part of a Check whose duration is measured.
type stage uint8

const (
	wholeCheck  stage = iota // from the message received to the answer
	catalogWait              // until the catalog is as new as the route; rare
	verdictWait              // until caches or key manager have answered
	numStages
)

// String returns the label of the stage.
func (s stage) String() string { return [numStages]string{"total", "catalog", "verdict"}[s] }

func newRecorder(log *slog.Logger) *recorder { return &recorder{log: log} }

// decided takes note of a decision: one line per refusal at level info (error
// where Envoy itself sent what it never should), and per allowed request at
// debug.
func (rec *recorder) decided(ctx context.Context, r *Request, d *Decision, took time.Duration) {
	rec.decisions[d.Reason].add()
	rec.stages[wholeCheck].observe(took)
	level, message := slog.LevelInfo, "refused"
	switch {
	case d.Reason.outcome() == outcomeOK:
		level, message = slog.LevelDebug, "allowed"
	case d.Reason == noAPI, d.Reason == malformedCheck, d.Reason == wrongGateway:
		level, message = slog.LevelError, "not decided: Envoy is not configured as it must be"
	case d.Reason.outcome() == outcomeError:
		message = "not decided"
	}
	if !rec.log.Enabled(ctx, level) {
		return
	}
	rec.log.LogAttrs(ctx, level, message, attributes(r, d, took)...)
}

func attributes(r *Request, d *Decision, took time.Duration) []slog.Attr {
	method := r.Method
	if !keymanager.KnownMethod(method) {
		method = "other"
	}
	t := d.Reason.text()
	list := []slog.Attr{
		slog.String("request_id", safeID(r.RequestID)),
		slog.String("code", t.code),
		slog.String("reason", t.name),
		slog.String("method", method),
		slog.Int64("took_us", took.Microseconds()),
	}
	if d.API != nil {
		list = append(list, slog.String("api", string(d.API.ID)))
	}
	if d.Resource != nil {
		list = append(list, slog.String("resource", d.Resource.Path))
	}
	if address, err := netip.ParseAddr(r.ClientAddress.Value); err == nil {
		list = append(list, slog.String("client", address.String()))
	}
	if v := d.Verdict; v != nil && v.Grant != nil {
		list = append(list,
			slog.String("application", string(v.Grant.Application.ID)),
			slog.String("consumer_key", string(v.Grant.ConsumerKey)),
			slog.String("token", v.TokenID.String()))
	}
	return list
}

// panicked counts a request whose decision panicked.
func (rec *recorder) panicked() { rec.decisions[panicked].add() }

// failed logs that the key manager gave no answer, once a second at most.
func (rec *recorder) failed(err error, at time.Duration) {
	last := rec.complained.Load()
	if n := int64(at) + 1; (last == 0 || n-last >= int64(time.Second)) && rec.complained.CompareAndSwap(last, n) {
		rec.log.Warn("the key manager gave no answer", "error", err)
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tollgate_authz_"+name, help, labels, nil)
}

var (
	decisionsDesc   = desc("decisions_total", "Checks answered, by code and reason.", "code", "reason")
	secondsDesc     = desc("check_seconds", "Duration of a Check by stage: total, catalog (waiting until it is as new as the route), verdict (caches or key manager).", "stage")
	skewDesc        = desc("catalog_skew_total", "Checks whose route was older (ahead) or newer (behind) than the catalog here.", "catalog")
	phaseDesc       = desc("phase", "1 for the phase that authz is in.", "phase")
	lagDesc         = desc("revocation_lag_seconds", "How long ago everything that was revoked by then had taken effect here.")
	catalogLagDesc  = desc("catalog_lag_seconds", "How long ago everything that was published by then was in use here.")
	eventsDesc      = desc("lag_events", "Events that are known to have happened and have not taken effect here.")
	positionDesc    = desc("position", "Number of the last event that has taken effect, by stream.", "stream")
	clockDesc       = desc("clock_skew_seconds", "The key manager's clock minus the clock here.")
	apisDesc        = desc("apis", "APIs in the table, and those of them that are not decided: described in a way that cannot be used (broken), without contact for too long (blind).", "state")
	underWayDesc    = desc("checks_under_way", "Checks that have begun and not ended.")
	strangersDesc   = desc("callers_refused_total", "Connections that were refused because the caller's certificate is not that of a gateway of this group.")
	deadEntriesDesc = desc("dead_entries", "What is refused until it expires, by kind (token, other).", "kind")
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decisionsDesc, secondsDesc, skewDesc, phaseDesc, lagDesc, catalogLagDesc,
		eventsDesc, positionDesc, clockDesc, apisDesc, underWayDesc, strangersDesc, deadEntriesDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for r := range numReasons {
		send(decisionsDesc, prometheus.CounterValue, float64(s.record.decisions[r].value()), r.text().code, r.String())
	}
	for st := range numStages {
		ch <- s.record.stages[st].metric(secondsDesc, st.String())
	}
	send(skewDesc, prometheus.CounterValue, float64(s.record.ahead.value()), "ahead")
	send(skewDesc, prometheus.CounterValue, float64(s.record.behind.value()), "behind")

	now := s.now()
	current := s.phase(now)
	for _, p := range []keymanager.GatewayPhase{keymanager.PhaseSyncing, keymanager.PhaseLive, keymanager.PhaseStale, keymanager.PhaseBlind} {
		on := 0.0
		if p == current {
			on = 1
		}
		send(phaseDesc, prometheus.GaugeValue, on, string(p))
	}
	age := func(h *hearing) float64 {
		return (s.contact.since(now) - time.Duration(h.complete.Load())).Seconds()
	}
	send(lagDesc, prometheus.GaugeValue, age(&s.contact.revocations))
	send(catalogLagDesc, prometheus.GaugeValue, age(&s.contact.catalog))
	send(eventsDesc, prometheus.GaugeValue, float64(s.behind()))
	send(positionDesc, prometheus.GaugeValue, float64(s.revoked.Position().Seq), "revocations")
	send(positionDesc, prometheus.GaugeValue, float64(s.apis.Position().Seq), "catalog")
	send(clockDesc, prometheus.GaugeValue, s.contact.skew(now).Seconds())
	all, broken := s.apis.Len()
	send(apisDesc, prometheus.GaugeValue, float64(all), "all")
	send(apisDesc, prometheus.GaugeValue, float64(broken), "broken")
	send(apisDesc, prometheus.GaugeValue, float64(s.blindAPIs(now)), "blind")
	send(underWayDesc, prometheus.GaugeValue, float64(s.gate.inside()))
	send(strangersDesc, prometheus.CounterValue, float64(s.record.strangers.value()))
	tokens, others := s.revoked.Len()
	send(deadEntriesDesc, prometheus.GaugeValue, float64(tokens), "token")
	send(deadEntriesDesc, prometheus.GaugeValue, float64(others), "other")
}
