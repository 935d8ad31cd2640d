package keymanager

import "time"

// Unlimited is the tier that counts nothing.
const Unlimited TierName = "Unlimited"

// Unauthenticated is the tier of callers of resources that need no credential.
const Unauthenticated TierName = "Unauthenticated"

// Tier is a named throttling limit: Requests per Unit. Requests 0 is
// unlimited. Tiers are stored and carried in verdicts, headers and metadata.
type Tier struct {
	Organization OrganizationID
	Name         TierName
	DisplayName  string
	Requests     int64
	Unit         time.Duration // a second, minute, hour or day
	StopOnQuota  bool          // false: count, but do not block
	Meta
}

// DefaultTiers returns the tiers that every organization starts with.
func DefaultTiers(org OrganizationID) []Tier {
	tier := func(name TierName, perMinute int64) Tier {
		return Tier{Organization: org, Name: name, DisplayName: string(name),
			Requests: perMinute, Unit: time.Minute, StopOnQuota: true}
	}
	return []Tier{
		tier("Gold", 5000), tier("Silver", 2000), tier("Bronze", 1000),
		tier(Unlimited, 0), tier(Unauthenticated, 500),
	}
}
