package cache

import (
	"crypto/rand"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func samePrefix(a, b netip.Prefix) bool { return a == b }

// fill sets every field below v, whatever fields a later version adds: one that
// is not encoded comes back empty.
func fill(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		at := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		v.Set(reflect.ValueOf(rapid.SampledFrom([]time.Time{{}, at}).Draw(t, "time")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("::ffff:1.2.3.4/120"),
		}).Draw(t, "prefix")))
		return
	case keymanager.Reason:
		v.SetUint(uint64(rapid.IntRange(int(keymanager.ReasonActive), int(keymanager.ReasonUserInactive)).Draw(t, "reason")))
		return
	case keymanager.CredentialKind:
		v.SetUint(uint64(rapid.IntRange(0, int(keymanager.APIKeyCredential)).Draw(t, "kind")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 4).Draw(t, "length"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
		}
	case reflect.Map:
		if m := rapid.MapOfN(rapid.String(), rapid.String(), 0, 4).Draw(t, "map"); len(m) > 0 {
			v.Set(reflect.ValueOf(m))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "number") >> (64 - v.Type().Bits()))
	default:
		t.Fatalf("the test knows no %s: see that the codec does", v.Type())
	}
}

func drawStored(t *rapid.T) *stored {
	s := new(stored)
	fill(t, reflect.ValueOf(&s.verdict).Elem())
	fill(t, reflect.ValueOf(&s.until).Elem())
	return s
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawStored(t)
		plain := want.append(nil)
		got, err := decodeStored(plain)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(stored{}), cmp.Comparer(samePrefix)); diff != "" {
			t.Fatal(diff)
		}
		for i := range plain { // no beginning of it is one
			if _, err := decodeStored(plain[:i]); err == nil {
				t.Fatalf("the first %d of %d bytes are taken", i, len(plain))
			}
		}
		if _, err := decodeStored(append(plain, 0)); err == nil {
			t.Fatal("a byte behind it is taken")
		}
	})
}

// TestSealed: a value opens only where it was written, and unchanged.
func TestSealed(t *testing.T) {
	keys, other := redisKeys(t), redisKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawStored(t)
		here, there := keys.current.place(query("a")), keys.current.place(query("b"))
		value, err := here.seal(nil, s.append(nil), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := here.open(nil, value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeStored(plain); err != nil {
			t.Fatal(err)
		}
		if _, err := there.open(nil, value); err == nil {
			t.Fatal("it opens in another place")
		}
		foreign := other.current.place(query("a"))
		if _, err := foreign.open(nil, value); err == nil {
			t.Fatal("it opens with another key")
		}
		i := rapid.IntRange(0, len(value)-1).Draw(t, "changed byte")
		value[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		if _, err := here.open(nil, value); err == nil {
			t.Fatalf("it opens with byte %d changed", i)
		}
		value = value[:i]
		if _, err := here.open(nil, value); err == nil {
			t.Fatalf("it opens cut to %d bytes", i)
		}
	})
}

// FuzzDecodeStored: whatever comes, it ends, and what is taken is a verdict that
// goes out and in again as itself.
func FuzzDecodeStored(f *testing.F) {
	f.Add((&stored{time.Unix(1, 2), *liveVerdict(3)}).append(nil))
	f.Add((&stored{verdict: keymanager.Verdict{Reason: keymanager.ReasonExpired, Grant: &keymanager.Grant{
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Referers: []string{"*"}}}}).append(nil))
	f.Fuzz(func(t *testing.T, plain []byte) {
		s, err := decodeStored(plain)
		if err != nil {
			return
		}
		again, err := decodeStored(s.append(nil))
		if err != nil {
			t.Fatalf("taken, but not again: %v", err)
		}
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(stored{}), cmp.Comparer(samePrefix)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzOpen: nothing but what seal made for this place is taken.
func FuzzOpen(f *testing.F) {
	keys, err := ParseRedisKeys([]byte(redisKeysHeading + "\ncurrent 1 a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf\n"))
	if err != nil {
		f.Fatal(err)
	}
	p := keys.current.place(query("t"))
	value, err := p.seal(nil, (&stored{time.Unix(1, 2), *liveVerdict(3)}).append(nil), zeros{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add(value[:len(value)-1])
	f.Fuzz(func(t *testing.T, changed []byte) {
		if _, err := p.open(nil, changed); err == nil && string(changed) != string(value) {
			t.Fatal("a value is taken that was not sealed")
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
