package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func newTags(t testing.TB) *TagKeys {
	t.Helper()
	file, err := NewTagKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := ParseTagKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

func mint(t testing.TB, kind func() (string, error)) string {
	t.Helper()
	v, err := kind()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestKindsAreToldApart(t *testing.T) {
	tags := newTags(t)
	m := NewMinter(tags, rand.Reader)
	values := map[string]string{
		PrefixAccessToken:  mint(t, m.AccessToken),
		PrefixClientSecret: mint(t, m.ClientSecret),
		PrefixAPIKey:       mint(t, m.APIKey),
	}
	for _, tt := range []struct {
		kind   keymanager.CredentialKind
		prefix string
	}{
		{keymanager.NoCredential, ""},
		{keymanager.AccessToken, PrefixAccessToken},
		{keymanager.APIKeyCredential, PrefixAPIKey},
		{keymanager.CredentialKind(200), ""},
	} {
		for prefix, value := range values {
			if !strings.HasPrefix(value, prefix) || len(value) != Length {
				t.Errorf("%d characters starting with %q, want %d starting with %q",
					len(value), value[:prefixLen], Length, prefix)
			}
			if got, want := tags.Check(tt.kind, value), tt.prefix == prefix; got != want {
				t.Errorf("Check(kind %d, %s…) = %v, want %v", tt.kind, prefix, got, want)
			}
			// Another prefix in front, CRC made right: the tag covers the prefix.
			if tt.prefix != "" && tt.prefix != prefix {
				if moved := withCRC(tt.prefix + value[prefixLen:]); tags.Check(tt.kind, moved) {
					t.Errorf("a %s credential passes as %s", prefix, tt.prefix)
				}
			}
		}
	}
}

// withCRC makes the last characters of value right.
func withCRC(value string) string {
	sum := checksum([]byte(value[:Length-sumLen]))
	return value[:Length-sumLen] + string(sum[:])
}

// The format as its comment draws it, taken apart with other means.
func TestFormat(t *testing.T) {
	var secret [keySize]byte
	for i := range secret {
		secret[i] = byte(i + 1)
	}
	tags := &TagKeys{current: newKey(7, secret)}
	value := mint(t, NewMinter(tags, bytes.NewReader(bytes.Repeat([]byte{0xAB}, 24))).AccessToken)

	body, err := base64.RawURLEncoding.DecodeString(value[5:64])
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte{1, 7, 0, 0}, bytes.Repeat([]byte{0xAB}, 24)...)
	if !bytes.Equal(body[:28], want) {
		t.Errorf("head is %x, want %x", body[:28], want)
	}
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("tgat_"))
	mac.Write(want)
	if tag := mac.Sum(nil)[:16]; !bytes.Equal(body[28:], tag) {
		t.Errorf("tag is %x, want %x", body[28:], tag)
	}
	crc := crc32.ChecksumIEEE([]byte(value[:64]))
	sum := base64.RawURLEncoding.EncodeToString([]byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
	if value[64:] != sum {
		t.Errorf("checksum is %q, want %q", value[64:], sum)
	}
}

func TestEveryChangeIsRefused(t *testing.T) {
	tags := newTags(t)
	value := mint(t, NewMinter(tags, rand.Reader).AccessToken)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

	check := func(what, changed string) {
		t.Helper()
		if changed != value && tags.Check(keymanager.AccessToken, changed) {
			t.Errorf("%s: accepted", what)
		}
	}
	for i := range len(value) {
		for bit := range 8 {
			b := []byte(value)
			b[i] ^= 1 << bit
			check("a flipped bit", string(b))
		}
		for _, c := range alphabet + "=+/ \n\r\x00\xff" {
			changed := value[:i] + string(c) + value[i+1:]
			check("another character", changed)
			if i < Length-sumLen && len(changed) == Length {
				check("another character, checksum made right", withCRC(changed))
			}
		}
		check("cut short", value[:i])
		check("a character left out", value[:i]+value[i+1:])
		check("a line break inside", value[:i]+"\n"+value[i:])
		check("a line break in place of a character", withCRC(value[:min(i, Length-sumLen)]+strings.Repeat("\n", Length-min(i, Length-sumLen))))
	}
	for _, tail := range []string{"=", "==", "\n", "\x00", " ", "A", value} {
		check("something after it", value+tail)
		check("something before it", tail+value)
	}

	// Each bit of the body, encoded and summed anew as an attacker would.
	var body [bodyLen]byte
	var text [Length]byte
	if !parse(&body, &text, PrefixAccessToken, value) {
		t.Fatal("a minted token does not parse")
	}
	for i := range bodyLen * 8 {
		changed := body
		changed[i/8] ^= 1 << (i % 8)
		format(&text, PrefixAccessToken, &changed)
		check("a flipped bit of the body", string(text[:]))
	}
}

func TestForeignInputIsRefused(t *testing.T) {
	tags := newTags(t)
	other := mint(t, NewMinter(newTags(t), rand.Reader).AccessToken)
	for name, value := range map[string]string{
		"empty":           "",
		"prefix alone":    PrefixAccessToken,
		"another's":       other,
		"a JWT":           "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
		"64 KiB":          PrefixAccessToken + strings.Repeat("A", 64<<10),
		"all zero":        withCRC(PrefixAccessToken + strings.Repeat("A", Length-prefixLen)),
		"not UTF-8":       strings.Repeat("\xff", Length),
		"upper case":      strings.ToUpper(other),
		"user as in WSO2": base64.StdEncoding.EncodeToString([]byte(other + ":FOO.COM/alice")),
	} {
		if tags.Check(keymanager.AccessToken, value) {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRandomStringsAreRefused(t *testing.T) {
	tags := newTags(t)
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.SliceOfN(rapid.Byte(), bodyLen, bodyLen).Draw(t, "body")
		body := [bodyLen]byte(random)
		body[atVersion], body[atKeyID], body[atDomain], body[atDomain+1] = version, 1, 0, 0
		var text [Length]byte
		format(&text, PrefixAccessToken, &body)
		if tags.Check(keymanager.AccessToken, string(text[:])) {
			t.Fatal("a random body was accepted")
		}
		if s := rapid.String().Draw(t, "string"); tags.Check(keymanager.AccessToken, s) {
			t.Fatal("a random string was accepted")
		}
	})
}

func TestDistinctAndRandom(t *testing.T) {
	const n = 10_000
	tags := newTags(t)
	m := NewMinter(tags, rand.Reader)
	seen := make(map[string]bool, n)
	randoms := make(map[[randomLen]byte]bool, n)
	var ones [randomLen * 8]int
	for range n {
		value := mint(t, m.AccessToken)
		if seen[value] {
			t.Fatal("the same token twice")
		}
		seen[value] = true
		if !tags.Check(keymanager.AccessToken, value) {
			t.Fatal("a minted token is refused")
		}
		var body [bodyLen]byte
		var text [Length]byte
		parse(&body, &text, PrefixAccessToken, value)
		random := [randomLen]byte(body[atRandom:headLen])
		randoms[random] = true
		for i := range ones {
			ones[i] += int(random[i/8]>>(i%8)) & 1
		}
	}
	if len(randoms) != n {
		t.Errorf("%d different random parts in %d tokens", len(randoms), n)
	}
	// Each of the 192 bits is set in about half of the tokens: within six
	// standard deviations, which chance exceeds once in millions of runs.
	for i, got := range ones {
		if dev := math.Abs(float64(got) - n/2); dev > 6*math.Sqrt(n)/2 {
			t.Errorf("bit %d is set in %d of %d tokens", i, got, n)
		}
	}
	if randomLen*8 < 160 {
		t.Errorf("%d random bits, want at least 160", randomLen*8)
	}
}

func TestTokenIDs(t *testing.T) {
	m := NewMinter(newTags(t), rand.Reader)
	a, err := m.TokenID()
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.TokenID()
	if err != nil {
		t.Fatal(err)
	}
	if a.IsZero() || a == b {
		t.Errorf("ids %s and %s", a, b)
	}
}

func TestRefusesWithoutKeys(t *testing.T) {
	value := mint(t, NewMinter(newTags(t), rand.Reader).AccessToken)
	for name, tags := range map[string]*TagKeys{"nil": nil, "zero": {}} {
		if tags.Check(keymanager.AccessToken, value) {
			t.Errorf("%s TagKeys accept", name)
		}
		if _, err := NewMinter(tags, rand.Reader).AccessToken(); err == nil {
			t.Errorf("a Minter with %s TagKeys mints", name)
		}
	}
	broken := NewMinter(newTags(t), io.LimitReader(rand.Reader, 23))
	if v, err := broken.AccessToken(); !errors.Is(err, io.ErrUnexpectedEOF) || v != "" {
		t.Errorf("with 23 random bytes: token of %d characters, error %v", len(v), err)
	}
	if _, err := broken.TokenID(); err == nil {
		t.Error("a token id without randomness")
	}
	if _, err := (&Minter{}).TokenID(); err == nil {
		t.Error("a token id from the zero Minter")
	}
}

func TestConcurrentUse(t *testing.T) {
	tags := newTags(t)
	m := NewMinter(tags, rand.Reader)
	forged := mint(t, NewMinter(newTags(t), rand.Reader).AccessToken)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				value, err := m.AccessToken()
				if err != nil || !tags.Check(keymanager.AccessToken, value) || tags.Check(keymanager.AccessToken, forged) {
					t.Error("a wrong answer under concurrency")
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCheck(f *testing.F) {
	tags := newTags(f)
	value := mint(f, NewMinter(tags, rand.Reader).AccessToken)
	f.Add(value)
	f.Add(value[:Length-1] + "=")
	f.Add(strings.Repeat("A", Length))
	f.Add(PrefixAPIKey)
	f.Fuzz(func(t *testing.T, s string) {
		if tags.Check(keymanager.AccessToken, s) && s != value {
			t.Errorf("accepted %q", s)
		}
		for _, prefix := range []string{PrefixAccessToken, PrefixClientSecret, PrefixAPIKey} {
			var body [bodyLen]byte
			var text, again [Length]byte
			if parse(&body, &text, prefix, s) {
				if format(&again, prefix, &body); string(again[:]) != s {
					t.Errorf("%q has another spelling, %q", s, again)
				}
			}
		}
	})
}
