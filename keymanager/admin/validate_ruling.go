package admin

import (
	"net/http"
	"net/netip"
	"slices"
	"time"

	"tollgate/keymanager"
)

// ruling is what becomes of a call. The words, codes and statuses are those of
// the gateway.
type ruling struct {
	reason  string
	status  int
	code    string
	message string
}

var (
	rulingAllowed     = ruling{"allowed", http.StatusOK, "", ""}
	rulingNotRouted   = ruling{"unknown_api", http.StatusNotFound, "404", "Not Found"}
	rulingAPIBlocked  = ruling{"api_blocked", http.StatusServiceUnavailable, "700700", "API blocked"}
	rulingUnknown     = refusedCredential("unknown_credential")
	rulingRevoked     = refusedCredential("revoked")
	rulingExpired     = ruling{"expired", http.StatusUnauthorized, "900903", "Access Token Expired"}
	rulingApplication = refusedCredential("application_inactive")
	rulingUser        = refusedCredential("user_inactive")
	rulingNetwork     = ruling{"network_refused", http.StatusForbidden, "900908", messageForbidden}
	rulingReferer     = ruling{"referer_refused", http.StatusForbidden, "900908", messageForbidden}
	rulingEndpoint    = refusedCredential("no_endpoint")
	rulingNone        = ruling{"not_subscribed", http.StatusForbidden, "900908", messageForbidden}
	rulingBlocked     = ruling{"subscription_blocked", http.StatusUnauthorized, "900907", "The requested API is temporarily blocked"}
	rulingInactive    = ruling{"subscription_inactive", http.StatusUnauthorized, "900909", "The subscription to the API is inactive"}
	rulingScope       = ruling{"insufficient_scope", http.StatusForbidden, "900910", "The access token does not allow you to access the requested resource"}
)

const messageForbidden = "Resource forbidden"

func refusedCredential(reason string) ruling {
	return ruling{reason, http.StatusUnauthorized, "900901", "Invalid Credentials"}
}

// judge decides in the order of the gateway: the API, the credential, where it
// may be used from, its endpoint, its subscription, its scopes. What is not
// known here is refused.
func judge(api *keymanager.API, v *keymanager.Verdict, scopes []keymanager.Scope, address netip.Addr, now time.Time) ruling {
	switch {
	case !api.Routed():
		return rulingNotRouted
	case api.State == keymanager.StateBlocked:
		return rulingAPIBlocked
	}
	switch v.Reason {
	case keymanager.ReasonActive:
	case keymanager.ReasonExpired:
		return rulingExpired
	case keymanager.ReasonRevoked:
		return rulingRevoked
	case keymanager.ReasonApplicationInactive:
		return rulingApplication
	case keymanager.ReasonUserInactive:
		return rulingUser
	default:
		return rulingUnknown
	}
	g := v.Grant
	switch {
	case !v.ExpiresAt.IsZero() && !now.Before(v.ExpiresAt):
		return rulingExpired
	case len(g.Networks) > 0 && !slices.ContainsFunc(g.Networks, func(n netip.Prefix) bool { return n.Contains(address.Unmap().WithZone("")) }):
		return rulingNetwork
	case len(g.Referers) > 0: // of browsers, whose calls go through a gateway
		return rulingReferer
	case g.KeyType == keymanager.Production && len(api.Production) > 0, g.KeyType == keymanager.Sandbox && len(api.Sandbox) > 0:
	default:
		return rulingEndpoint
	}
	switch sub := g.Subscription; {
	case sub == nil:
		return rulingNone
	case sub.State == keymanager.Unblocked, sub.State == keymanager.TierUpdatePending,
		sub.State == keymanager.ProdOnlyBlocked && g.KeyType == keymanager.Sandbox:
	case sub.State == keymanager.Blocked, sub.State == keymanager.ProdOnlyBlocked:
		return rulingBlocked
	default:
		return rulingInactive
	}
	if len(scopes) > 0 && !slices.ContainsFunc(scopes, func(s keymanager.Scope) bool { return slices.Contains(g.Scopes, s) }) {
		return rulingScope
	}
	return rulingAllowed
}
