package store

import "tollgate/keymanager"

// Standing returns the part of the facts that keymanager's policy judges.
func (f *Facts) Standing() keymanager.Standing {
	return keymanager.Standing{
		Principal: keymanager.Principal{
			Application: f.ApplicationStatus,
			Owner:       f.OwnerStatus,
			User:        f.UserStatus,
		},
		ExpiresAt: f.ExpiresAt,
		RevokedAt: f.RevokedAt,
	}
}

// Principal returns the part of the facts that keymanager's policy judges: a
// client acts for its application's owner.
func (f *ClientFacts) Principal() keymanager.Principal {
	return keymanager.Principal{
		Application: f.Application.Status,
		Owner:       f.Owner.Status,
		User:        f.Owner.Status,
	}
}
