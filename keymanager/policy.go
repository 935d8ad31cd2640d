package keymanager

import (
	"slices"
	"strings"
	"time"
)

// Principal is those whom a credential stands for, as far as they decide
// whether it is honoured.
type Principal struct {
	Application ApplicationStatus
	Owner       UserStatus // of the application
	User        UserStatus // whom the credential stands for; the owner where there is no other
}

// Standing is what is stored about one credential and about those behind it.
type Standing struct {
	Principal
	ExpiresAt time.Time // zero = never
	RevokedAt time.Time // zero = live
}

// Reason says whether the principal may be given a credential: ReasonActive or
// why not. A state that is not known here is refused.
func (p Principal) Reason() Reason {
	switch {
	case p.Application != ApplicationApproved:
		return ReasonApplicationInactive
	case p.Owner != UserActive, p.User != UserActive:
		return ReasonUserInactive
	default:
		return ReasonActive
	}
}

// Reason says whether the credential is honoured at now. It is the one place
// where that is decided: issuing, introspection and validation all ask here, so
// that none of them forgets a check. What ended for good comes first: a revoked
// credential is revoked also when it has expired.
func (s Standing) Reason(now time.Time) Reason {
	switch {
	case !s.RevokedAt.IsZero():
		return ReasonRevoked
	case !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt):
		return ReasonExpired
	default:
		return s.Principal.Reason()
	}
}

// HonouredScopes returns those of a credential's scopes that count: one of the
// management plane only while the application has it, so that a right that was
// taken away is gone from the tokens too. What is changed is a copy.
func HonouredScopes(credential, application []Scope) []Scope {
	lost := func(s Scope) bool { return s.Management() && !slices.Contains(application, s) }
	if !slices.ContainsFunc(credential, lost) {
		return credential
	}
	return slices.DeleteFunc(slices.Clone(credential), lost)
}

// Management reports whether the scope is one of the management plane.
func (s Scope) Management() bool { return strings.HasPrefix(string(s), ManagementScopePrefix) }
