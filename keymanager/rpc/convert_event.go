package rpc

import (
	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

func eventTo(e keymanager.Event) (*pb.Event, error) {
	var c converter
	m := &pb.Event{Mark: c.markTo(e.Mark), Now: c.timeTo(e.Now)}
	switch {
	case e.Dead != nil:
		m.Item = &pb.Event_Dead{Dead: c.deadTo(e.Dead)}
	case e.Stale != nil:
		m.Item = &pb.Event_Stale{Stale: c.staleTo(e.Stale)}
	case e.Type == keymanager.Item:
		c.fail("an event is empty")
	}
	return m, c.err
}

// eventFrom fails for an event that is not understood: it must not be
// overlooked.
func eventFrom(m *pb.Event) (keymanager.Event, error) {
	var c converter
	e := keymanager.Event{Mark: c.markFrom(m.GetMark()), Now: c.timeFrom(m.GetNow())}
	switch item := m.GetItem().(type) {
	case *pb.Event_Dead:
		e.Dead = c.deadFrom(item.Dead)
	case *pb.Event_Stale:
		e.Stale = c.staleFrom(item.Stale)
	default:
		if e.Type == keymanager.Item {
			c.fail("an event is empty, or of a kind that is not known here")
		}
	}
	if e.Type != keymanager.Item && m.GetItem() != nil {
		c.fail("a message of the revocations is no item, and holds one")
	}
	if c.err != nil {
		return keymanager.Event{}, c.err
	}
	return e, nil
}

func (c *converter) deadTo(d *keymanager.Dead) *pb.Dead {
	m := &pb.Dead{NotBefore: c.timeTo(d.NotBefore), ExpiresAt: c.timeTo(d.ExpiresAt)}
	switch {
	case !d.TokenID.IsZero():
		m.Who = &pb.Dead_TokenId{TokenId: d.TokenID[:]}
	case !d.Family.IsZero():
		m.Who = &pb.Dead_Family{Family: d.Family[:]}
	case d.ConsumerKey != "":
		m.Who = &pb.Dead_ConsumerKey{ConsumerKey: string(d.ConsumerKey)}
	case d.User != "":
		m.Who = &pb.Dead_User{User: string(d.User)}
	case d.UserStore != "":
		m.Who = &pb.Dead_UserStore{UserStore: d.UserStore}
	default:
		c.fail("an event says of nobody that he is refused")
	}
	return m
}

func (c *converter) deadFrom(m *pb.Dead) *keymanager.Dead {
	d := &keymanager.Dead{NotBefore: c.timeFrom(m.GetNotBefore()), ExpiresAt: c.timeFrom(m.GetExpiresAt())}
	switch who := m.GetWho().(type) {
	case *pb.Dead_TokenId:
		d.TokenID = c.idFrom(who.TokenId)
	case *pb.Dead_Family:
		d.Family = c.idFrom(who.Family)
	case *pb.Dead_ConsumerKey:
		d.ConsumerKey = keymanager.ConsumerKey(who.ConsumerKey)
	case *pb.Dead_User:
		d.User = keymanager.UserID(who.User)
	case *pb.Dead_UserStore:
		d.UserStore = who.UserStore
	}
	if d.TokenID.IsZero() && d.Family.IsZero() && d.ConsumerKey == "" && d.User == "" && d.UserStore == "" {
		c.fail("an event says of nobody, or nobody who is known here, that he is refused")
	}
	return d
}

func (c *converter) staleTo(s *keymanager.Stale) *pb.Stale {
	switch {
	case s.Application != "":
		return &pb.Stale{What: &pb.Stale_Application{Application: string(s.Application)}}
	case s.Subscription != "":
		return &pb.Stale{What: &pb.Stale_Subscription{Subscription: string(s.Subscription)}}
	case !s.TokenID.IsZero():
		return &pb.Stale{What: &pb.Stale_TokenId{TokenId: s.TokenID[:]}}
	case s.User != "":
		return &pb.Stale{What: &pb.Stale_User{User: string(s.User)}}
	case s.API != "":
		return &pb.Stale{What: &pb.Stale_Api{Api: string(s.API)}}
	}
	c.fail("an event says of nothing that it is stale")
	return nil
}

func (c *converter) staleFrom(m *pb.Stale) *keymanager.Stale {
	s := &keymanager.Stale{}
	switch what := m.GetWhat().(type) {
	case *pb.Stale_Application:
		s.Application = keymanager.ApplicationID(what.Application)
	case *pb.Stale_Subscription:
		s.Subscription = keymanager.SubscriptionID(what.Subscription)
	case *pb.Stale_TokenId:
		s.TokenID = c.idFrom(what.TokenId)
	case *pb.Stale_User:
		s.User = keymanager.UserID(what.User)
	case *pb.Stale_Api:
		s.API = keymanager.APIID(what.Api)
	}
	if *s == (keymanager.Stale{}) {
		c.fail("an event says of nothing, or nothing that is known here, that it is stale")
	}
	return s
}
