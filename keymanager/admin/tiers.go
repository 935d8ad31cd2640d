package admin

import (
	"context"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// TierSpec is the JSON of a throttling tier.
type TierSpec struct {
	DisplayName string `json:"displayName,omitempty" doc:"default: the name"`
	Requests    int64  `json:"requests,omitempty" doc:"per unit; 0: unlimited" minimum:"0" example:"5000"`
	Unit        string `json:"unit,omitempty" enum:"second,minute,hour,day" doc:"default: minute"`
	StopOnQuota *bool  `json:"stopOnQuota,omitempty" doc:"false: count, but do not block; default: true"`
}

// tierUnits are the names of the units of time.
var tierUnits = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
}

func tiers() *managed[keymanager.Tier, TierSpec] {
	return &managed[keymanager.Tier, TierSpec]{
		kind: kindTier, rank: 1, put: "put-tier",
		find: func(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.Tier, error) {
			return l.tier(ctx, org, keymanager.TierName(name))
		},
		build: buildTier,
		show: func(_ context.Context, _ *lookup, t *keymanager.Tier) (*TierSpec, error) {
			s := &TierSpec{DisplayName: t.DisplayName, Requests: t.Requests, StopOnQuota: &t.StopOnQuota}
			for name, unit := range tierUnits {
				if unit == t.Unit {
					s.Unit = name
				}
			}
			return s, nil
		},
		about: func(_ context.Context, _ *lookup, t *keymanager.Tier) (Object[TierSpec], error) {
			return Object[TierSpec]{
				Organization: string(t.Organization), Name: string(t.Name), ID: string(t.Name),
				Revision: t.Revision, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
			}, nil
		},
		id: func(t *keymanager.Tier) any {
			return keymanager.TierRef{Organization: t.Organization, Name: t.Name}
		},
		create: func(ctx context.Context, tx *txn, t *keymanager.Tier) error { return tx.st.CreateTier(ctx, t) },
		update: func(ctx context.Context, tx *txn, t *keymanager.Tier) error { return tx.st.UpdateTier(ctx, t) },
		remove: func(ctx context.Context, tx *txn, t *keymanager.Tier) error {
			return tx.st.DeleteTier(ctx, t.Organization, t.Name)
		},
	}
}

func buildTier(_ context.Context, _ *txn, c *checks, org keymanager.OrganizationID, name string, s *TierSpec, old *keymanager.Tier) (*keymanager.Tier, error) {
	t := &keymanager.Tier{
		Organization: org, Name: keymanager.TierName(name), DisplayName: s.DisplayName,
		Requests: s.Requests, Unit: time.Minute, StopOnQuota: s.StopOnQuota == nil || *s.StopOnQuota,
	}
	if t.DisplayName == "" {
		t.DisplayName = name
	}
	if s.Unit != "" {
		t.Unit = tierUnits[s.Unit] // an unknown one is 0, and refused
	}
	if old != nil {
		t.Meta = old.Meta
	}
	c.fields = append(c.fields, keymanager.ValidateTier(t)...)
	return t, nil
}

func mountTiers(m *mount) {
	k := tiers()
	m.kinds[k.kind] = k
	mountManaged(m, resource[keymanager.Tier, TierSpec]{
		kind: k, one: "tier", many: "tiers",
		collection: "/organizations/{org}/tiers", item: "/{name}",
		list: func(ctx context.Context, st store.Store, org keymanager.OrganizationID, p store.Page) ([]keymanager.Tier, int, error) {
			return st.Tiers(ctx, org, p)
		},
	})
}
