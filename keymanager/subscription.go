package keymanager

// SubscriptionState says what a subscription allows. The zero value allows
// nothing.
type SubscriptionState string

// The states of a subscription.
const (
	Unblocked         SubscriptionState = "UNBLOCKED"
	Blocked           SubscriptionState = "BLOCKED"
	ProdOnlyBlocked   SubscriptionState = "PROD_ONLY_BLOCKED" // sandbox keys pass
	OnHold            SubscriptionState = "ON_HOLD"
	Rejected          SubscriptionState = "REJECTED"
	TierUpdatePending SubscriptionState = "TIER_UPDATE_PENDING" // the old tier serves on
)

// Subscription lets an application call an API within a tier. There is at most
// one for each pair.
type Subscription struct {
	ID            SubscriptionID
	Organization  OrganizationID
	Name          string // unique in the organization
	ApplicationID ApplicationID
	APIID         APIID
	Tier          TierName
	PendingTier   TierName // asked for while TierUpdatePending
	State         SubscriptionState
	Meta
}
