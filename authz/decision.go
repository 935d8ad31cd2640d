package authz

import (
	"strings"

	"tollgate/authz/apis"
	"tollgate/authz/revoked"
	"tollgate/keymanager"
)

// Decision is what became of a request, and what is known of it: more the
// further the walk came. The zero value is undecided.
type Decision struct {
	Reason     Reason
	API        *apis.API
	Resource   *keymanager.Resource
	Credential keymanager.Credential // kind and value; secret
	Verdict    *keymanager.Verdict
	// Env is the environment that the request goes to; set when it is allowed.
	Env keymanager.KeyType

	place place
	strip toStrip
}

// begin decides as far as that is possible without asking anybody: the request
// against the API. Asks tells whether the key manager has the next word about
// the credential. It is pure.
func begin(r *Request, api *apis.API, tags Tags) (d Decision, asks bool) {
	d.API = api
	if d.Reason = d.route(r); d.Reason != allowed {
		return d, false
	}
	path, query, _ := strings.Cut(r.Path, "?")
	if d.Reason = d.resource(r.Method, path); d.Reason != allowed {
		return d, false
	}
	offered := readOffer(r.Subprotocols, tags)
	if d.Resource.AuthType == keymanager.AuthNone {
		d.anonymous()
		d.strip = strip(r, query, &offered, nowhere, tags)
		return d, false
	}
	if d.Reason = d.credential(r, query, &offered, tags); d.Reason != allowed {
		return d, false
	}
	d.strip = strip(r, query, &offered, d.place, tags)
	d.Reason = Undecided
	return d, true
}

func (d *Decision) route(r *Request) Reason {
	switch {
	case d.API.Broken != nil:
		return brokenAPI
	case d.API.Blocked:
		return apiBlocked
	case !keymanager.KnownMethod(r.Method):
		return methodRefused
	default:
		return allowed
	}
}

func (d *Decision) resource(method, path string) Reason {
	if !cleanPath(path) {
		return pathRefused
	}
	if d.Resource = d.API.Match(method, path); d.Resource == nil {
		return noResource
	}
	return allowed
}

// anonymous lets a caller through whom the resource does not ask for a
// credential: to production, or to sandbox if that is all there is.
func (d *Decision) anonymous() {
	switch {
	case d.API.Production:
		d.Reason, d.Env = allowedAnonymous, keymanager.Production
	case d.API.Sandbox:
		d.Reason, d.Env = allowedAnonymous, keymanager.Sandbox
	default:
		d.Reason = brokenAPI
	}
}

func (d *Decision) credential(r *Request, query string, offered *offer, tags Tags) (why Reason) {
	d.Credential.Value, d.place, why = findCredential(r, query, offered, d.API)
	if why != allowed {
		return why
	}
	d.Credential.Kind = d.place.kind()
	if tags.Check(d.Credential.Kind, d.Credential.Value) {
		return allowed
	}
	for _, other := range []keymanager.CredentialKind{keymanager.AccessToken, keymanager.APIKeyCredential} {
		if other != d.Credential.Kind && tags.Check(other, d.Credential.Value) {
			return wrongPlace
		}
	}
	return notOurs
}

// finish decides by a verdict and what has been revoked since it was read. It
// is pure.
func (d *Decision) finish(r *Request, v *keymanager.Verdict, since revoked.Answer, now clocks) {
	d.Verdict = v
	if d.Reason = standing(v, since, now); d.Reason != allowed {
		return
	}
	if d.Reason = restrictions(v.Grant, r); d.Reason != allowed {
		return
	}
	if !d.API.Takes(v.Grant.KeyType) {
		d.Reason = noEndpoint
		return
	}
	if d.Reason = subscription(v.Grant); d.Reason != allowed {
		return
	}
	if !honours(d.Resource.AuthType, v.Grant.UserType) {
		d.Reason = wrongTokenType
		return
	}
	if !anyOf(d.Resource.Scopes, v.Grant.Scopes) {
		d.Reason = insufficientScope
		return
	}
	d.Env = v.Grant.KeyType
}

// standing says whether the credential itself is honoured.
func standing(v *keymanager.Verdict, since revoked.Answer, now clocks) Reason {
	switch {
	case since == revoked.Dead:
		return revokedCredential
	case v.Reason == keymanager.ReasonNoSuchCredential:
		return unknownCredential // nothing is stored: no event can name it
	case since != revoked.Live:
		return outdated
	}
	switch v.Reason {
	case keymanager.ReasonActive:
	case keymanager.ReasonExpired:
		return expiredCredential
	case keymanager.ReasonRevoked:
		return revokedCredential
	case keymanager.ReasonApplicationInactive:
		return applicationInactive
	case keymanager.ReasonUserInactive:
		return userInactive
	default: // also of a later version
		return unknownVerdict
	}
	expired, agreed := now.expired(v.ExpiresAt)
	switch {
	case v.Grant == nil:
		return unknownVerdict
	case !agreed:
		return clocksDiffer
	case expired:
		return expiredCredential
	default:
		return allowed
	}
}

// subscription says what the state of the application's subscription allows.
func subscription(g *keymanager.Grant) Reason {
	if g.Subscription == nil {
		return notSubscribed
	}
	switch g.Subscription.State {
	case keymanager.Unblocked, keymanager.TierUpdatePending:
		return allowed
	case keymanager.Blocked:
		return subscriptionBlocked
	case keymanager.ProdOnlyBlocked:
		if g.KeyType == keymanager.Sandbox {
			return allowed
		}
		return subscriptionBlocked
	default: // ON_HOLD, REJECTED, and states of a later version
		return subscriptionInactive
	}
}

// honours says whether a resource takes credentials of a user type.
func honours(t keymanager.AuthType, user keymanager.UserType) bool {
	switch user {
	case keymanager.UserTypeApplication:
		return t == keymanager.AuthAny || t == keymanager.AuthApplication
	case keymanager.UserTypeApplicationUser:
		return t == keymanager.AuthAny || t == keymanager.AuthApplicationUser
	default:
		return false
	}
}

// anyOf says whether a credential has one of the scopes that a resource names,
// or needs none.
func anyOf(need, have []keymanager.Scope) bool {
	for _, n := range need {
		for _, h := range have {
			if n == h {
				return true
			}
		}
	}
	return len(need) == 0
}
