package store

import (
	"context"
	"time"

	"tollgate/keymanager"
)

// FaultClass says on whose side a call failed. "" is none: the back end has
// answered, whatever it answered.
type FaultClass string

// The fault classes.
const (
	FaultAuth      FaultClass = "AUTH"                // authz refused it
	FaultThrottled FaultClass = "THROTTLED"           // it was one too many
	FaultTarget    FaultClass = "TARGET_CONNECTIVITY" // the back end could not be reached, or did not finish
	FaultOther     FaultClass = "OTHER"
)

// UsageRecord is one call through a gateway: identifiers and sizes. An empty
// field is not known, as most are of a call that matched no API.
type UsageRecord struct {
	// Source and Number make the record unique: writing it again does nothing.
	Source int64
	Number int64

	At           time.Time // when the call began
	Request      string    // its id
	Gateway      string    // the Envoy, and
	Group        string    // its gateway group
	Organization keymanager.OrganizationID
	API          keymanager.APIID
	APIVersion   string
	Application  keymanager.ApplicationID
	Subscription keymanager.SubscriptionID
	ConsumerKey  keymanager.ConsumerKey
	KeyType      keymanager.KeyType
	Tier         keymanager.TierName
	User         string
	Method       string
	Route        string // name of Envoy's route
	Status       int    // HTTP; 0 = the caller went before there was one
	Reason       string // why authz refused
	Fault        FaultClass
	Flags        string // Envoy's response flags ("UF,URX")

	RequestBytes, ResponseBytes int64 // of bodies
	Duration, Upstream          time.Duration
}

// UsageDimension is what usage can be summed up by.
type UsageDimension string

// The dimensions.
const (
	UsageByNothing      UsageDimension = ""
	UsageByAPI          UsageDimension = "api"
	UsageByApplication  UsageDimension = "application"
	UsageBySubscription UsageDimension = "subscription"
	UsageByConsumerKey  UsageDimension = "consumerKey"
	UsageByTier         UsageDimension = "tier"
	UsageByUser         UsageDimension = "user"
	UsageByStatus       UsageDimension = "status"
	UsageByReason       UsageDimension = "reason"
	UsageByFault        UsageDimension = "fault"
	UsageByGateway      UsageDimension = "gateway"
)

// UsageQuery asks for calls that began in [From, To), summed up.
type UsageQuery struct {
	Organization keymanager.OrganizationID // "" = all, and calls of none
	API          keymanager.APIID          // "" = all
	Application  keymanager.ApplicationID  // "" = all
	From, To     time.Time
	By           UsageDimension
	// Step cuts the time into pieces that begin at multiples of it (UTC); 0 = one.
	Step time.Duration
}

// UsageSum is a row of the answer: the calls with one value of the dimension in
// one piece of time.
type UsageSum struct {
	At    time.Time // when the piece begins; zero without a Step
	Key   string    // value of the dimension; "" = not known
	Name  string    // of an API (with its version) or application that exists still
	Calls int64
	// Failed are those with a fault class, ServerErrors those with a status from
	// 500 on.
	Failed, ServerErrors        int64
	RequestBytes, ResponseBytes int64
	P50, P95                    time.Duration // of the whole call
}

// Usage keeps what was called.
type Usage interface {
	// AddUsage writes records in one statement; those that are there already stay
	// as they are. KindInvalid: one of them cannot be stored, and none was. The organization of a record is that of its API, where there
	// is such an API.
	AddUsage(ctx context.Context, records []UsageRecord) error
	// SumUsage sums up, ordered by At, then by the number of calls, the largest
	// first. The number of rows is cut at p.
	SumUsage(ctx context.Context, q UsageQuery, p Page) ([]UsageSum, int, error)
	// UsageRecords returns single records of an organization ("" = of all), the
	// newest first.
	UsageRecords(ctx context.Context, q UsageQuery, p Page) ([]UsageRecord, int, error)
	// DeleteUsage removes at most limit records that began before t. Several may
	// do it at once.
	DeleteUsage(ctx context.Context, t time.Time, limit int) (int, error)
}
