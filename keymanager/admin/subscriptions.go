package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// SubscriptionSpec is the JSON of a subscription.
type SubscriptionSpec struct {
	Application string `json:"application" doc:"the name of an application of the organization" example:"shop"`
	API         APIRef `json:"api" doc:"an API of the organization: name/version, or both apart"`
	Tier        string `json:"tier,omitempty" doc:"one of the API's; default: the only one it has" example:"Gold"`
	State       string `json:"state,omitempty" enum:"UNBLOCKED,BLOCKED,PROD_ONLY_BLOCKED,ON_HOLD,REJECTED,TIER_UPDATE_PENDING" doc:"left out: as it is; of a new subscription: UNBLOCKED. It takes tollgate:publish to change it"`
	PendingTier string `json:"pendingTier,omitempty" doc:"the tier asked for in the state TIER_UPDATE_PENDING"`
}

// APIRef names an API: "pets/1.0.0", or an object of name and version.
type APIRef string

// Schema shows both forms.
func (APIRef) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{
		Description: "an API of the organization: name/version, or both apart",
		OneOf: []*huma.Schema{text, {
			Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"name", "version"},
			Properties: map[string]*huma.Schema{"name": text, "version": text},
		}},
		Examples: []any{"pets/1.0.0"},
	}
}

func (r *APIRef) fromJSON(v any, at string, problems *[]keymanager.FieldError) {
	if s, ok := v.(string); ok {
		*r = APIRef(s)
		return
	}
	var parts struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	decodeInto(&parts, v, at, problems)
	*r = APIRef(parts.Name + "/" + parts.Version)
}

func subscriptions() *managed[keymanager.Subscription, SubscriptionSpec] {
	return &managed[keymanager.Subscription, SubscriptionSpec]{
		kind: kindSubscription, rank: 6, put: "put-subscription",
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.Subscription, error) {
			return readNamed(l, ref{kindSubscription, org, name}, func() (*keymanager.Subscription, error) {
				return l.st.SubscriptionByName(ctx, org, name)
			})
		},
		build: buildSubscription,
		show: func(ctx context.Context, l *lookup, s *keymanager.Subscription) (*SubscriptionSpec, error) {
			app, err := l.applicationByID(ctx, s.ApplicationID)
			if err != nil {
				return nil, err
			}
			api, err := l.apiByID(ctx, s.APIID)
			if err != nil {
				return nil, err
			}
			return &SubscriptionSpec{
				Application: app.Name, API: APIRef(api.Name + "/" + api.Version), Tier: string(s.Tier),
				State: string(s.State), PendingTier: string(s.PendingTier),
			}, nil
		},
		about: func(_ context.Context, _ *lookup, s *keymanager.Subscription) (Object[SubscriptionSpec], error) {
			return Object[SubscriptionSpec]{
				Organization: string(s.Organization), Name: s.Name, ID: string(s.ID),
				Revision: s.Revision, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
			}, nil
		},
		id: func(s *keymanager.Subscription) any { return s.ID },
		create: func(ctx context.Context, tx *txn, s *keymanager.Subscription) error {
			return tx.st.CreateSubscription(ctx, s)
		},
		update: func(ctx context.Context, tx *txn, s *keymanager.Subscription) error {
			return tx.st.UpdateSubscription(ctx, s)
		},
		remove: func(ctx context.Context, tx *txn, s *keymanager.Subscription) error {
			if err := guardState(tx.caller, s.State, keymanager.Unblocked); err != nil {
				return err
			}
			return tx.st.DeleteSubscription(ctx, s.ID)
		},
	}
}

func buildSubscription(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *SubscriptionSpec, old *keymanager.Subscription) (*keymanager.Subscription, error) {
	sub := &keymanager.Subscription{
		Organization: org, Name: name, Tier: keymanager.TierName(s.Tier),
		PendingTier: keymanager.TierName(s.PendingTier), State: keymanager.SubscriptionState(s.State),
	}
	was := keymanager.Unblocked
	if old != nil {
		sub.ID, sub.Meta, was = old.ID, old.Meta, old.State
	} else {
		id, err := tx.newID()
		if err != nil {
			return nil, err
		}
		sub.ID = keymanager.SubscriptionID(id)
	}
	if sub.State == "" {
		sub.State = was
		if old != nil && sub.PendingTier == "" {
			sub.PendingTier = old.PendingTier
		}
	}
	if err := guardState(tx.caller, was, sub.State); err != nil {
		return nil, err
	}
	if s.Application != "" {
		sub.ApplicationID = unresolved
		if app := c.application(ctx, "/application", org, s.Application); app != nil {
			sub.ApplicationID = app.ID
		}
	}
	if s.API != "" {
		sub.APIID = unresolved
		if api := c.api(ctx, "/api", org, string(s.API)); api != nil {
			sub.APIID = api.ID
			chooseTier(c, sub, old, api)
		}
	}
	if old != nil {
		cannotMove(c, "/application", sub.ApplicationID, old.ApplicationID)
		cannotMove(c, "/api", sub.APIID, old.APIID)
	}
	if sub.Tier == "" && s.API == "" {
		sub.Tier = keymanager.Unlimited // the missing API is the problem
	}
	c.fields = append(c.fields, keymanager.ValidateSubscription(sub)...)
	return sub, nil
}

// guardState keeps the state of a subscription for publishers. Deleting one
// counts as a change to UNBLOCKED, which is what the next one made would be.
func guardState(c Caller, was, next keymanager.SubscriptionState) error {
	if next == was || publishers.allows(c) {
		return nil
	}
	return forbidden("/state", "it takes %s to change the state of a subscription, or to delete one that is not %s",
		joined(publishers.wanted()), keymanager.Unblocked)
}

// cannotMove refuses a reference that differs from what is stored.
func cannotMove[T ~string](c *checks, at string, now, was T) {
	if now != was && now != "" && now != unresolved {
		c.add(at, "cannot change: delete the subscription and make another")
	}
}

// chooseTier holds a new subscription, and a new tier, against the API.
func chooseTier(c *checks, sub, old *keymanager.Subscription, api *keymanager.API) {
	if old == nil && (api.State == keymanager.StateDeprecated || api.State == keymanager.StateRetired) {
		c.add("/api", fmt.Sprintf("takes no new subscriptions: it is %s", api.State))
	}
	if sub.Tier == "" {
		switch {
		case old != nil:
			sub.Tier = old.Tier
		case len(api.Tiers) == 1:
			sub.Tier = api.Tiers[0]
		default:
			c.add("/tier", "must be one of the API's tiers: "+joined(api.Tiers))
			sub.Tier = keymanager.Unlimited // not a problem twice
			return
		}
	}
	if (old == nil || old.Tier != sub.Tier) && !slices.Contains(api.Tiers, sub.Tier) {
		c.add("/tier", "must be one of the API's tiers: "+joined(api.Tiers))
	}
	if sub.PendingTier != "" && (old == nil || old.PendingTier != sub.PendingTier) && !slices.Contains(api.Tiers, sub.PendingTier) {
		c.add("/pendingTier", "must be one of the API's tiers: "+joined(api.Tiers))
	}
}

type subscriptionsIn struct {
	PageQuery
	Application string `query:"application" doc:"only those of this application"`
	API         string `query:"api" doc:"only those to this API: name/version"`
}

func mountSubscriptions(m *mount) {
	s := m.server
	r := resource[keymanager.Subscription, SubscriptionSpec]{
		kind: subscriptions(), one: "subscription", many: "subscriptions",
		collection: "/organizations/{org}/subscriptions", item: "/{name}",
	}
	m.kinds[r.kind.kind] = r.kind
	mountManaged(m, r)
	route(m, operation{
		id: "list-subscriptions", method: http.MethodGet, path: r.collection, tag: kindSubscription, summary: "List subscriptions",
	}, func(ctx context.Context, in *subscriptionsIn) (*pageOut[Object[SubscriptionSpec]], error) {
		org, l := requestOf(ctx).organization(), newLookup(s.Store)
		if _, err := l.organization(ctx, org); err != nil {
			return nil, orNoOrganization(err, org)
		}
		var f store.SubscriptionFilter
		if in.Application != "" {
			app, err := l.application(ctx, org, in.Application)
			if err != nil {
				return nil, err
			}
			f.Application = app.ID
		}
		if in.API != "" {
			api, err := l.api(ctx, org, in.API)
			if err != nil {
				return nil, err
			}
			f.API = api.ID
		}
		list, total, err := s.Store.Subscriptions(ctx, org, f, in.page())
		if err != nil {
			return nil, err
		}
		items, err := r.show(ctx, s.Store, list)
		return &pageOut[Object[SubscriptionSpec]]{Body: listOf(items, total, in.PageQuery)}, err
	})
	route(m, operation{
		id: "set-subscription-state", method: http.MethodPut, path: r.collection + r.item + "/state", tag: kindSubscription,
		summary: "Block or unblock a subscription, or move it otherwise",
	}, func(ctx context.Context, in *stateIn) (*objectOut[SubscriptionSpec], error) {
		body, err := readState(in)
		if err != nil {
			return nil, err
		}
		org, name := r.ref(ctx)
		return modify(ctx, s, r, org, name, in.Conditions, func(spec *SubscriptionSpec) {
			spec.State = body.State
			if body.State != string(keymanager.TierUpdatePending) {
				spec.PendingTier = ""
			}
		})
	})
}
