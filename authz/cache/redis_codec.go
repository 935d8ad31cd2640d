package cache

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tollgate/keymanager"
)

// The encoding of a verdict in Redis: every field in the order of its struct,
// numbers as varints, texts and lists with their length before them. A change
// of it takes a new redisVersion and RedisPrefix.
//
// stored is a verdict and when it must no longer be used, whatever Redis says
// about its life.
type stored struct {
	until   time.Time
	verdict keymanager.Verdict
}

func (s *stored) append(b []byte) []byte {
	v := &s.verdict
	b = appendTime(b, s.until)
	b = append(b, byte(v.Reason), byte(v.Kind))
	b = append(b, v.TokenID[:]...)
	b = append(b, v.Family[:]...)
	b = appendTime(b, v.IssuedAt)
	b = appendTime(b, v.ExpiresAt)
	b = append(b, v.Head.Epoch[:]...)
	b = binary.AppendUvarint(b, v.Head.Seq)
	if v.Grant == nil {
		return append(b, 0)
	}
	return appendGrant(append(b, 1), v.Grant)
}

func appendGrant(b []byte, g *keymanager.Grant) []byte {
	b = appendText(b, g.Organization)
	b = appendText(b, g.Application.ID)
	b = appendText(b, g.Application.Name)
	b = appendText(b, g.Application.Tier)
	b = binary.AppendUvarint(b, uint64(len(g.Application.Attributes)))
	for _, name := range slices.Sorted(maps.Keys(g.Application.Attributes)) {
		b = appendText(appendText(b, name), g.Application.Attributes[name])
	}
	b = appendText(b, g.ConsumerKey)
	b = appendText(b, g.KeyType)
	b = appendText(b, g.Subscriber)
	b = appendText(b, g.User)
	b = appendText(b, g.UserID)
	b = appendText(b, g.UserStore)
	b = appendText(b, g.UserType)
	b = appendTexts(b, g.Scopes)
	if s := g.Subscription; s == nil {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = appendText(b, s.ID)
		b = appendText(b, s.State)
		b = appendText(b, s.Tier)
	}
	b = binary.AppendUvarint(b, uint64(len(g.Networks)))
	for _, n := range g.Networks {
		b = appendText(b, n.String())
	}
	return appendTexts(b, g.Referers)
}

func appendText[T ~string](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts[T ~string](b []byte, list []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

// appendTime keeps the instant, not the zone.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

var errMalformed = errors.New("cache: this is not the encoding of a verdict")

// decodeStored reads what append wrote. The texts share one copy of plain.
func decodeStored(plain []byte) (*stored, error) {
	r := &reader{rest: string(plain)}
	s := new(stored)
	v := &s.verdict
	s.until = r.time()
	v.Reason = keymanager.Reason(r.byte())
	v.Kind = keymanager.CredentialKind(r.byte())
	copy(v.TokenID[:], r.take(uint64(len(v.TokenID))))
	copy(v.Family[:], r.take(uint64(len(v.Family))))
	v.IssuedAt = r.time()
	v.ExpiresAt = r.time()
	copy(v.Head.Epoch[:], r.take(uint64(len(v.Head.Epoch))))
	v.Head.Seq = r.number()
	if r.flag() {
		v.Grant = r.grant()
	}
	if r.failed || r.rest != "" || v.Reason == keymanager.ReasonUnknown || v.Reason > keymanager.ReasonUserInactive ||
		v.Kind > keymanager.APIKeyCredential {
		return nil, errMalformed
	}
	return s, nil
}

// reader takes values off the front of rest. After a failure all it gives is
// empty.
type reader struct {
	rest   string
	failed bool
}

func (r *reader) take(n uint64) string {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed, r.rest = true, ""
		return ""
	}
	var head string
	head, r.rest = r.rest[:n], r.rest[n:]
	return head
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

// flag reads 0 or 1, and no other spelling of them.
func (r *reader) flag() bool {
	b := r.byte()
	if b > 1 {
		r.failed = true
	}
	return b == 1
}

// number reads a varint of at most 64 bits in its shortest form.
func (r *reader) number() uint64 {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		if r.failed || shift == 63 && b > 1 || shift > 0 && b == 0 {
			break
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.failed, r.rest = true, ""
	return 0
}

func (r *reader) time() time.Time {
	n := r.number()
	seconds := int64(n >> 1)
	if n&1 != 0 {
		seconds = ^seconds
	}
	nanoseconds := r.number()
	if nanoseconds >= 1e9 {
		r.failed = true
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC()
}

// count reads the length of a list whose elements take a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, ""
		return 0
	}
	return int(n)
}

func text[T ~string](r *reader) T { return T(r.take(r.number())) }

func texts[T ~string](r *reader) []T {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		list[i] = text[T](r)
	}
	return list
}

func (r *reader) grant() *keymanager.Grant {
	g := &keymanager.Grant{
		Organization: text[keymanager.OrganizationID](r),
		Application: keymanager.GrantApplication{
			ID: text[keymanager.ApplicationID](r), Name: text[string](r), Tier: text[keymanager.TierName](r), Attributes: r.attributes(),
		},
		ConsumerKey: text[keymanager.ConsumerKey](r),
		KeyType:     text[keymanager.KeyType](r),
		Subscriber:  text[string](r),
		User:        text[string](r),
		UserID:      text[keymanager.UserID](r),
		UserStore:   text[string](r),
		UserType:    text[keymanager.UserType](r),
		Scopes:      texts[keymanager.Scope](r),
	}
	if r.flag() {
		g.Subscription = &keymanager.GrantSubscription{
			ID: text[keymanager.SubscriptionID](r), State: text[keymanager.SubscriptionState](r), Tier: text[keymanager.TierName](r),
		}
	}
	for range r.count() {
		n, err := netip.ParsePrefix(text[string](r))
		if err != nil {
			r.failed = true
			break
		}
		g.Networks = append(g.Networks, n)
	}
	g.Referers = texts[string](r)
	return g
}

func (r *reader) attributes() map[string]string {
	n := r.count()
	if n == 0 {
		return nil
	}
	m := make(map[string]string, min(n, 64))
	for range n {
		name := text[string](r)
		m[name] = text[string](r)
	}
	return m
}
