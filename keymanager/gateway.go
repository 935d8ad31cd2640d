package keymanager

import (
	"context"
	"time"
)

// GatewayKind is the part that reports.
type GatewayKind string

// The kinds of gateway parts.
const (
	GatewayAuthz GatewayKind = "authz"
	GatewayXDS   GatewayKind = "xds"
)

// GatewayPhase is how far a gateway part can be trusted. The zero value is not
// ready.
type GatewayPhase string

// The phases of a gateway part.
const (
	PhaseSyncing GatewayPhase = "SYNCING" // not ready: catalog or revocations not loaded
	PhaseLive    GatewayPhase = "LIVE"
	PhaseStale   GatewayPhase = "STALE" // no heartbeat for 3 s: alarm
	PhaseBlind   GatewayPhase = "BLIND" // no heartbeat for max_stale: 503
	PhaseGone    GatewayPhase = "GONE"  // said by the receiver: no report for some seconds
)

// GatewayState is what an authz or an xds says of itself.
type GatewayState struct {
	Kind      GatewayKind
	ID        string // of this instance
	Group     string // gateway group
	Phase     GatewayPhase
	Confirmed Position // everything up to here has taken effect
	// Lag is how long ago, when it was reported, Confirmed was known to be the
	// head of the log. In a healthy system it is below the second between two
	// heartbeats.
	Lag   time.Duration
	Nodes []NodeState
	// Rejected are the APIs whose newest content is in use nowhere in the group:
	// their last accepted routes stay, or they have none.
	Rejected []RejectedResource
	At       time.Time // when it was reported; set by the receiver
}

// NodeState is one Envoy as xds sees it.
type NodeState struct {
	ID           string
	Group        string
	Version      string // Envoy's own
	Connected    bool
	Acknowledged Position
	Rejected     []RejectedResource
}

// RejectedResource is one resource that was not put into use: refused by Envoy,
// or quarantined before it was sent. Reason never holds a secret.
type RejectedResource struct {
	Node   string // "" = quarantined by xds itself
	Type   string // type URL
	Name   string
	API    APIID
	Reason string
	Since  time.Time
}

// Gateways answers: who runs what?
type Gateways interface {
	// Report replaces what is known of (Kind, ID). It is called on every
	// change and at least every second; a part that is silent for longer than
	// a few seconds counts as gone.
	Report(ctx context.Context, s GatewayState) error
}
