package rpc

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

var messageTypes = newEnum("message type", map[keymanager.MessageType]pb.MessageType{
	keymanager.SnapshotBegin: pb.MessageType_MESSAGE_TYPE_SNAPSHOT_BEGIN,
	keymanager.SnapshotEnd:   pb.MessageType_MESSAGE_TYPE_SNAPSHOT_END,
	keymanager.Item:          pb.MessageType_MESSAGE_TYPE_ITEM,
	keymanager.Heartbeat:     pb.MessageType_MESSAGE_TYPE_HEARTBEAT,
})

var catalogKinds = newEnum("catalog kind", map[keymanager.CatalogKind]pb.CatalogKind{
	keymanager.CatalogAPI:  pb.CatalogKind_CATALOG_KIND_API,
	keymanager.CatalogTier: pb.CatalogKind_CATALOG_KIND_TIER,
})

func (c *converter) markTo(m keymanager.Mark) *pb.Mark {
	return &pb.Mark{Type: write(c, messageTypes, m.Type), At: positionTo(m.At), After: positionTo(m.After)}
}

func (c *converter) markFrom(m *pb.Mark) keymanager.Mark {
	return keymanager.Mark{Type: read(c, messageTypes, m.GetType()), At: c.positionFrom(m.GetAt()), After: c.positionFrom(m.GetAfter())}
}

// changeTo writes a change. If its API alone has no place in the protocol, the
// message holds one that every reader refuses, and broken says why.
func changeTo(v keymanager.Change) (m *pb.Change, broken, err error) {
	var c converter
	m = &pb.Change{Mark: c.markTo(v.Mark)}
	switch {
	case v.API != nil:
		var api *pb.API
		api, broken = apiTo(v.API)
		m.Item = &pb.Change_Api{Api: api}
	case v.Tier != nil:
		m.Item = &pb.Change_Tier{Tier: c.tierTo(v.Tier)}
	case v.RemovedAPI != "":
		m.Item = &pb.Change_RemovedApi{RemovedApi: string(v.RemovedAPI)}
	case v.RemovedTier != nil:
		m.Item = &pb.Change_RemovedTier{RemovedTier: &pb.TierRef{Organization: string(v.RemovedTier.Organization), Name: string(v.RemovedTier.Name)}}
	case v.Type == keymanager.Item:
		c.fail("an item of the catalog is empty")
	}
	return m, broken, c.err
}

// changeFrom returns a change. If its API alone is not understood, the change
// holds one that is not routed in its place, and broken says why.
func changeFrom(m *pb.Change) (v keymanager.Change, broken, err error) {
	var c converter
	v.Mark = c.markFrom(m.GetMark())
	switch item := m.GetItem().(type) {
	case *pb.Change_Api:
		v.API, broken = apiFrom(item.Api)
		if broken != nil && item.Api.GetId() == "" {
			c.fail("API: %w", broken)
		}
	case *pb.Change_Tier:
		v.Tier = c.tierFrom(item.Tier)
	case *pb.Change_RemovedApi:
		if v.RemovedAPI = keymanager.APIID(item.RemovedApi); v.RemovedAPI == "" {
			c.fail("a removed API has no id")
		}
	case *pb.Change_RemovedTier:
		v.RemovedTier = &keymanager.TierRef{
			Organization: keymanager.OrganizationID(item.RemovedTier.GetOrganization()), Name: keymanager.TierName(item.RemovedTier.GetName()),
		}
	default:
		if v.Type == keymanager.Item {
			c.fail("an item of the catalog is empty, or of a kind that is not known here")
		}
	}
	if v.Type != keymanager.Item && m.GetItem() != nil {
		c.fail("a message of the catalog is no item, and holds one")
	}
	if c.err != nil {
		return keymanager.Change{}, nil, c.err
	}
	return v, broken, nil
}

func (c *converter) metaTo(v keymanager.Meta) *pb.Meta {
	return &pb.Meta{CreatedAt: c.timeTo(v.CreatedAt), UpdatedAt: c.timeTo(v.UpdatedAt), Revision: v.Revision}
}

func (c *converter) metaFrom(m *pb.Meta) keymanager.Meta {
	return keymanager.Meta{CreatedAt: c.timeFrom(m.GetCreatedAt()), UpdatedAt: c.timeFrom(m.GetUpdatedAt()), Revision: m.GetRevision()}
}

func (c *converter) tierTo(t *keymanager.Tier) *pb.Tier {
	return &pb.Tier{
		Organization: string(t.Organization), Name: string(t.Name), DisplayName: t.DisplayName,
		Requests: t.Requests, Unit: durationpb.New(t.Unit), StopOnQuota: t.StopOnQuota, Meta: c.metaTo(t.Meta),
	}
}

func (c *converter) tierFrom(m *pb.Tier) *keymanager.Tier {
	c.understand(m.GetMustUnderstand())
	return &keymanager.Tier{
		Organization: keymanager.OrganizationID(m.GetOrganization()), Name: keymanager.TierName(m.GetName()), DisplayName: m.GetDisplayName(),
		Requests: m.GetRequests(), Unit: c.durationFrom(m.GetUnit()), StopOnQuota: m.GetStopOnQuota(), Meta: c.metaFrom(m.GetMeta()),
	}
}
