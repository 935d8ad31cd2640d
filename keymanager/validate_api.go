package keymanager

import (
	"net/netip"
	"strings"
	"time"
)

// reservedSegments are the first path segments that belong to the gateway.
var reservedSegments = []string{"oauth2", ".well-known", "api", "console", "healthz", "readyz"}

// ValidateAPI checks an API. Whether its name and its place (host, context,
// version) are free, and whether its tiers exist, is for the store to say.
func ValidateAPI(a *API) []FieldError {
	var p problems
	if a.ID != "" && !isLabel(string(a.ID), alnum, "-") {
		p.add("/id", "must be 1 to %d letters, digits and single \"-\"", maxLabel)
	}
	p.name("/name", a.Name)
	p.context(a.Context, a.Protocol)
	p.version(a.Version)
	p.hosts(a.Hosts)
	oneOf(&p, "/protocol", a.Protocol, HTTP1, HTTP2, GRPC, WebSocket)
	p.times(a)
	p.endpoints(a)
	p.backend(a)
	p.resources(a)
	for i, s := range a.Security {
		oneOf(&p, child("/security", i), s, SchemeOAuth2, SchemeAPIKey, SchemeAPIKeyQuery, SchemeOAuth2WebSocket)
		if s == SchemeOAuth2WebSocket && a.Protocol != WebSocket {
			p.add(child("/security", i), "must not be %s: the protocol of the API is not %s", s, WebSocket)
		}
	}
	unique(&p, "/security", a.Security)
	p.tiers("/tiers", a.Tiers)
	p.cors(a.CORS)
	oneOf(&p, "/state", a.State, StateCreated, StatePublished, StateDeprecated, StateBlocked, StateRetired)
	p.labels(a.Labels)
	oneOf(&p, "/cache", a.Cache, CacheDefault, CacheOff)
	if a.Routed() {
		if len(a.Production)+len(a.Sandbox) == 0 {
			p.add("/production", "needs at least one endpoint, here or in sandbox, in the state %s", a.State)
		}
		if len(a.Resources) == 0 {
			p.add("/resources", "needs at least one resource in the state %s", a.State)
		}
	}
	return p
}

// times checks how long a call and a stream may take, and how long an answer
// stays good without contact.
func (p *problems) times(a *API) {
	p.span("/timeout", a.Timeout, 0, time.Hour, "; 0 makes it a stream")
	switch {
	case a.Protocol == WebSocket && !a.Stream():
		p.add("/timeout", "must be 0 for the protocol %s, whose calls are streams: maxDuration and idleTimeout limit them", WebSocket)
	case !a.Stream() && a.MaxDuration != 0:
		p.add("/maxDuration", "is the limit of a stream, but timeout is %v: set timeout to 0, or leave this out", a.Timeout)
	case !a.Stream() && a.IdleTimeout != 0:
		p.add("/idleTimeout", "is the limit of a stream, but timeout is %v: set timeout to 0, or leave this out", a.Timeout)
	}
	p.optionalSpan("/maxDuration", a.MaxDuration, time.Second, 24*time.Hour)
	p.optionalSpan("/idleTimeout", a.IdleTimeout, time.Second, time.Hour)
	if a.MaxStale != nil {
		p.span("/maxStale", *a.MaxStale, 0, 10*time.Minute, "")
	}
}

// span checks a time against its limits; also says what more there is to know.
func (p *problems) span(path string, d, least, most time.Duration, also string) {
	if d < least || d > most || d%time.Millisecond != 0 {
		p.add(path, "must be from %v to %v in whole milliseconds%s", least, most, also)
	}
}

// optionalSpan checks a time that may be left out, which is 0.
func (p *problems) optionalSpan(path string, d, least, most time.Duration) {
	if d != 0 {
		p.span(path, d, least, most, "")
	}
}

// context checks the path an API lives at.
func (p *problems) context(s string, protocol Protocol) {
	const path = "/context"
	if len(s) > maxContext {
		p.add(path, "must be at most %d characters", maxContext)
		return
	}
	if protocol == GRPC {
		if !strings.HasPrefix(s, "/") || !isProtobufName(s[1:]) {
			p.add(path, "must be \"/\" and the full name of a gRPC service, such as /package.Service")
			return
		}
	} else if why := pathProblem(s); why != "" {
		p.add(path, "%s: it must start with \"/\" and have segments of letters, digits and \"-._~\", such as /pets or /shop/orders", why)
		return
	}
	first, _, _ := strings.Cut(s[1:], "/")
	for _, r := range reservedSegments {
		if strings.EqualFold(first, r) {
			p.add(path, "must not start with /%s, which belongs to the gateway itself (as do /%s)", r, strings.Join(reservedSegments, ", /"))
		}
	}
}

// pathProblem says what is wrong with a path of unreserved characters (RFC 3986
// section 2.3), or "".
func pathProblem(s string) string {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "does not start with \"/\""
	case s == "/":
		return "has no segment"
	case strings.Contains(s, "//"):
		return "has an empty segment (\"//\")"
	case strings.HasSuffix(s, "/"):
		return "ends with \"/\""
	}
	for _, segment := range strings.Split(s[1:], "/") {
		if segment == "." || segment == ".." {
			return "has a segment \".\" or \"..\""
		}
		for i := range len(segment) {
			if !unreserved(segment[i]) {
				return "has a character that is not allowed"
			}
		}
	}
	return ""
}

func unreserved(c byte) bool { return isAlnum(c) || strings.IndexByte("-._~", c) >= 0 }

// isProtobufName reports whether s is a full name: identifiers joined by dots.
func isProtobufName(s string) bool {
	for _, part := range strings.Split(s, ".") {
		if !isIdentifier(part) {
			return false
		}
	}
	return true
}

func isIdentifier(s string) bool {
	if s == "" || '0' <= s[0] && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '_' {
			return false
		}
	}
	return true
}

func (p *problems) version(s string) {
	if len(s) > maxVersion || pathProblem("/"+s) != "" || strings.Contains(s, "/") {
		p.add("/version", "must be 1 to %d letters, digits and any of \"-._~\", such as 1.0.0 or v2; it is one segment of the path", maxVersion)
	}
}

// hosts checks names as they stand in the Host header, without port.
func (p *problems) hosts(list []string) {
	if !p.size("/hosts", len(list), maxHosts) {
		return
	}
	for i, h := range list {
		if !isHostName(h) && !isHostAddress(h) {
			p.add(child("/hosts", i), "must be a lower-case DNS name, an IPv4 address or an IPv6 address in brackets, without port, wildcard or final dot")
		}
	}
	unique(p, "/hosts", list)
}

// isHostName reports whether s is a lower-case DNS name (RFC 1123 section 2.1).
// A last label of digits only would be read as an address.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := range len(l) {
			if !lower(l[i]) && l[i] != '-' {
				return false
			}
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// isHostAddress reports whether s is an address in its canonical form.
func isHostAddress(s string) bool {
	if v6, ok := strings.CutPrefix(s, "["); ok {
		v6, ok = strings.CutSuffix(v6, "]")
		a, err := netip.ParseAddr(v6)
		return ok && err == nil && a.Is6() && a.Zone() == "" && !a.Is4In6() && a.String() == v6
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4() && a.String() == s
}

// tiers checks the tiers that a subscription may ask for.
func (p *problems) tiers(path string, list []TierName) {
	if !p.size(path, len(list), maxTiers) {
		return
	}
	for i, t := range list {
		p.subscriptionTier(child(path, i), t)
	}
	unique(p, path, list)
}

// subscriptionTier checks the tier of a subscription.
func (p *problems) subscriptionTier(path string, t TierName) {
	p.tier(path, t)
	if t == Unauthenticated {
		p.add(path, "must not be %s, the tier of calls without a credential", Unauthenticated)
	}
}

func (p *problems) labels(list []string) {
	if !p.size("/labels", len(list), maxLabels) {
		return
	}
	for i, l := range list {
		if !isLabel(l, lower, "-") {
			p.add(child("/labels", i), "must be the name of a gateway group: 1 to %d lower-case letters, digits and single \"-\" between them", maxLabel)
		}
	}
	unique(p, "/labels", list)
}

// transitions is the life cycle: where an API may go from each state. A new
// API may start anywhere; RETIRED is the end.
var transitions = map[LifecycleState][]LifecycleState{
	StateCreated:    {StatePublished},
	StatePublished:  {StateCreated, StateBlocked, StateDeprecated},
	StateBlocked:    {StatePublished, StateDeprecated},
	StateDeprecated: {StatePublished, StateBlocked, StateRetired},
	StateRetired:    nil,
}

// ValidTransition reports whether an API may go from one life-cycle state to
// another. Staying is allowed. From "" (a new API) every state is.
func ValidTransition(from, to LifecycleState) bool {
	if _, known := transitions[to]; !known {
		return false
	}
	if from == "" || from == to {
		return true
	}
	for _, s := range transitions[from] {
		if s == to {
			return true
		}
	}
	return false
}

// NextStates returns the states that an API may go to from s, for the text of
// a refusal.
func NextStates(s LifecycleState) []LifecycleState {
	return append([]LifecycleState(nil), transitions[s]...)
}
