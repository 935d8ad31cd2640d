package usage

import (
	"net/http"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"tollgate/keymanager/store"
)

// flag is one of Envoy's response flags, with the short name that its text logs
// have for it.
type flag struct {
	name string
	set  func(*accesslogv3.ResponseFlags) bool
	// fault is what the flag alone says.
	fault store.FaultClass
}

type responseFlags = accesslogv3.ResponseFlags

var flags = []flag{
	{"LH", (*responseFlags).GetFailedLocalHealthcheck, store.FaultOther},
	{"UH", (*responseFlags).GetNoHealthyUpstream, store.FaultTarget},
	{"UT", (*responseFlags).GetUpstreamRequestTimeout, store.FaultTarget},
	{"LR", (*responseFlags).GetLocalReset, store.FaultTarget},
	{"UR", (*responseFlags).GetUpstreamRemoteReset, store.FaultTarget},
	{"UF", (*responseFlags).GetUpstreamConnectionFailure, store.FaultTarget},
	{"UC", (*responseFlags).GetUpstreamConnectionTermination, store.FaultTarget},
	{"UO", (*responseFlags).GetUpstreamOverflow, store.FaultTarget},
	{"NR", (*responseFlags).GetNoRouteFound, store.FaultOther},
	{"DI", (*responseFlags).GetDelayInjected, ""},
	{"FI", (*responseFlags).GetFaultInjected, store.FaultOther},
	{"RL", (*responseFlags).GetRateLimited, store.FaultThrottled},
	{"UAEX", func(f *responseFlags) bool { return f.GetUnauthorizedDetails() != nil }, ""},
	{"RLSE", (*responseFlags).GetRateLimitServiceError, store.FaultOther},
	{"DC", (*responseFlags).GetDownstreamConnectionTermination, store.FaultOther},
	{"URX", (*responseFlags).GetUpstreamRetryLimitExceeded, store.FaultTarget},
	{"SI", (*responseFlags).GetStreamIdleTimeout, store.FaultOther},
	{"IH", (*responseFlags).GetInvalidEnvoyRequestHeaders, store.FaultOther},
	{"DPE", (*responseFlags).GetDownstreamProtocolError, store.FaultOther},
	{"UMSDR", (*responseFlags).GetUpstreamMaxStreamDurationReached, store.FaultTarget},
	{"RFCF", (*responseFlags).GetResponseFromCacheFilter, ""},
	{"NFCF", (*responseFlags).GetNoFilterConfigFound, store.FaultOther},
	{"DT", (*responseFlags).GetDurationTimeout, store.FaultOther},
	{"UPE", (*responseFlags).GetUpstreamProtocolError, store.FaultTarget},
	{"NC", (*responseFlags).GetNoClusterFound, store.FaultTarget},
	{"OM", (*responseFlags).GetOverloadManager, store.FaultOther},
	{"DF", (*responseFlags).GetDnsResolutionFailure, store.FaultTarget},
	{"DR", (*responseFlags).GetDownstreamRemoteReset, store.FaultOther},
}

// flagsOf returns the names of the flags, separated by commas, and the first
// fault among them: those at the back end come before what the caller did
// because of them.
func flagsOf(f *responseFlags) (names string, fault store.FaultClass) {
	var set []string
	for _, known := range flags {
		if f == nil || !known.set(f) {
			continue
		}
		set = append(set, known.name)
		if fault == "" || known.fault == store.FaultTarget {
			fault = known.fault
		}
	}
	return strings.Join(set, ","), fault
}

// classify says on whose side a call failed. reason is authz's, byFlags the
// fault of the flags, asked says that a back end was asked.
func classify(status int, reason string, byFlags store.FaultClass, asked bool) store.FaultClass {
	switch {
	case reason != "":
		switch status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return store.FaultAuth
		case http.StatusTooManyRequests:
			return store.FaultThrottled
		}
		return store.FaultOther
	case status == http.StatusSwitchingProtocols:
		return "" // a WebSocket was open, and ends by one side closing the connection
	case byFlags != "":
		return byFlags
	case status == http.StatusTooManyRequests && !asked:
		return store.FaultThrottled
	case status == 0, status >= http.StatusBadRequest && !asked: // the gateway's own answer
		return store.FaultOther
	}
	return ""
}
