package xds

import (
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/keymanager"
)

// retryOn is how Envoy calls a condition; statuses are listed beside it.
var retryOn = map[keymanager.RetryCondition]string{
	keymanager.RetryConnectFailure:     "connect-failure",
	keymanager.RetryRefusedStream:      "refused-stream",
	keymanager.RetryResetBeforeRequest: "reset-before-request",
	keymanager.RetryUnavailable:        "unavailable",
	keymanager.Retry502:                statusRetry,
	keymanager.Retry503:                statusRetry,
	keymanager.Retry504:                statusRetry,
}

const statusRetry = "retriable-status-codes"

// retryPolicy says when the router sends a call again; nil = never. authz has
// decided by then and is not asked again. With safe alone only what has not
// reached a back end counts.
func retryPolicy(p *packer, policy *keymanager.Retry, safe bool) *routev3.RetryPolicy {
	r := keymanager.DefaultRetry()
	if policy != nil {
		r = *policy
	}
	if len(r.On) == 0 {
		r.On = keymanager.SafeRetries()
	}
	var on []string
	var statuses []uint32
	for _, c := range r.On {
		name := retryOn[c]
		if name == statusRetry {
			if safe {
				continue
			}
			n, err := strconv.ParseUint(string(c), 10, 32)
			if err != nil {
				continue // retryOn has numbers alone under this name
			}
			statuses = append(statuses, uint32(n))
			if c != keymanager.Retry502 && !slices.Contains(on, "reset") {
				on = append(on, "reset") // a lost connection and PerTryTimeout have no status of the back end
			}
		}
		if !slices.Contains(on, name) {
			on = append(on, name)
		}
	}
	if r.Attempts == 0 || len(on) == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{
		RetryOn: strings.Join(on, ","), NumRetries: uint32Value(uint32(r.Attempts)), RetriableStatusCodes: statuses,
	}
	if policy == nil {
		return out
	}
	if r.PerTryTimeout > 0 {
		out.PerTryTimeout = durationpb.New(r.PerTryTimeout)
	}
	if r.BackOff == 0 {
		r.BackOff = keymanager.DefaultRetryBackOff
	}
	out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
		// Envoy waits a random time up to twice the base.
		BaseInterval: durationpb.New(r.BackOff), MaxInterval: durationpb.New(10 * r.BackOff),
	}
	// To another endpoint, if there is one.
	out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
		Name:       "envoy.retry_host_predicates.previous_hosts",
		ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: p.pack(&previousv3.PreviousHostsPredicate{})},
	}}
	out.HostSelectionRetryMaxAttempts = 3
	return out
}

// twoKinds reports whether methods that are not idempotent are retried less
// often than the others: then the API has a route for each.
func (p *plan) twoKinds() bool {
	r := p.retry
	return r != nil && r.Attempts > 0 && !r.AnyMethod && !p.grpc &&
		slices.ContainsFunc(r.On, func(c keymanager.RetryCondition) bool { return retryOn[c] == statusRetry })
}

// idempotent matches every method but POST and PATCH (RFC 9110 section 9.2.2).
func idempotent() []*routev3.HeaderMatcher {
	var out []*routev3.HeaderMatcher
	for _, method := range []string{"POST", "PATCH"} {
		out = append(out, &routev3.HeaderMatcher{
			Name: ":method", InvertMatch: true,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exact(method)},
		})
	}
	return out
}
