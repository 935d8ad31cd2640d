package apis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tollgate/keymanager"
)

// API is one API as authz needs it. It is immutable.
type API struct {
	ID           keymanager.APIID
	Organization keymanager.OrganizationID
	Name         string
	Version      string
	Hosts        []string
	BasePath     string // "/pets/1.0.0": starts with "/", does not end with it
	Blocked      bool   // life-cycle state BLOCKED
	Uncached     bool   // every call asks the key manager
	Rev          uint64 // number of the log event that published this content
	// MaxStale is how long the API is decided from what is known here without a
	// word from the key manager; negative = as the deployment says.
	MaxStale time.Duration

	// Where credentials are taken from.
	TakesBearer, TakesKeyHeader, TakesKeyQuery, TakesSubprotocol bool
	// Which environments have an endpoint.
	Production, Sandbox bool

	// Broken says why the description cannot be used; nil if it can. Nothing
	// is decided by a broken API, and it does not disturb the others.
	Broken error

	root node
}

// compile turns a published API into its form for look-ups. It never fails:
// what it does not understand makes the API Broken.
func compile(a *keymanager.API) *API {
	out := &API{
		ID:               a.ID,
		Organization:     a.Organization,
		Name:             a.Name,
		Version:          a.Version,
		Hosts:            a.Hosts,
		BasePath:         a.BasePath(),
		Blocked:          a.State == keymanager.StateBlocked,
		Uncached:         a.Cache != keymanager.CacheDefault,
		Rev:              a.Position,
		MaxStale:         maxStale(a.MaxStale),
		TakesBearer:      a.Takes(keymanager.SchemeOAuth2),
		TakesKeyHeader:   a.Takes(keymanager.SchemeAPIKey),
		TakesKeyQuery:    a.Takes(keymanager.SchemeAPIKeyQuery),
		TakesSubprotocol: a.Takes(keymanager.SchemeOAuth2WebSocket),
		Production:       len(a.Production) > 0,
		Sandbox:          len(a.Sandbox) > 0,
	}
	if !strings.HasPrefix(out.BasePath, "/") || strings.HasSuffix(out.BasePath, "/") {
		out.Broken = fmt.Errorf("base path %q does not start with \"/\" or ends with it", out.BasePath)
	}
	for i := range a.Resources {
		if err := out.root.add(&a.Resources[i]); err != nil && out.Broken == nil {
			out.Broken = fmt.Errorf("resource %d: %w", i, err)
		}
	}
	return out
}

// longestMaxStale bounds what an API may ask for.
const longestMaxStale = 10 * time.Minute

func maxStale(d *time.Duration) time.Duration {
	if d == nil {
		return -1
	}
	return min(max(*d, 0), longestMaxStale)
}

// OwnMaxStale reports whether the API has a MaxStale of its own.
func (a *API) OwnMaxStale() bool { return a.MaxStale >= 0 }

// Match finds the resource for a method and a whole path without query, as
// Envoy normalised it. The most specific template wins, segment by segment: a
// plain segment before a {variable} before "*"; for equal templates the method
// itself before "*". nil if there is none, or if a back end could take the path
// for that of another resource: a segment is spelled with escapes so that it
// means a plain segment; without a "/" at the end, which many back ends ignore,
// the path has another rule; or a HEAD request, which many back ends answer like
// GET, has another rule than GET, and not one that names HEAD.
func (a *API) Match(method, path string) *keymanager.Resource {
	rest, below := strings.CutPrefix(path, a.BasePath)
	if !below || rest != "" && rest[0] != '/' {
		return nil
	}
	if rest == "/" {
		rest = ""
	}
	r, _ := a.root.match(method, rest)
	if short, slash := strings.CutSuffix(rest, "/"); slash && r != nil {
		if same, _ := a.root.match(method, short); same != r {
			return nil
		}
	}
	if method == "HEAD" && r != nil && r.Method != method {
		if same, _ := a.root.match("GET", rest); same != r {
			return nil
		}
	}
	return r
}

// Takes reports whether the API can be called in the environment of key type t.
func (a *API) Takes(t keymanager.KeyType) bool {
	switch t {
	case keymanager.Production:
		return a.Production
	case keymanager.Sandbox:
		return a.Sandbox
	default:
		return false
	}
}

// Serves reports whether the API answers on a host, which is compared without
// regard to case; "" is any.
func (a *API) Serves(host string) bool {
	return host == "" || len(a.Hosts) == 0 ||
		slices.ContainsFunc(a.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}
