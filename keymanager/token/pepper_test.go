package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func TestDigestIsHMAC(t *testing.T) {
	var secret [keySize]byte
	secret[0] = 1
	p := &Peppers{current: newKey(9, secret)}
	rapid.Check(t, func(t *rapid.T) {
		value := strings.Repeat(rapid.String().Draw(t, "value"), rapid.IntRange(0, 4).Draw(t, "times"))
		mac := hmac.New(sha256.New, secret[:])
		mac.Write([]byte(value))
		want := keymanager.Digest{PepperID: 9, Sum: [32]byte(mac.Sum(nil))}
		if got := p.Digest(value); got != want {
			t.Fatalf("digest of %d bytes is %x, want %x", len(value), got.Sum, want.Sum)
		}
		if !p.Match(want, value) || p.Match(want, value+"x") {
			t.Fatal("Match is wrong")
		}
	})
}

func TestPepperGenerations(t *testing.T) {
	file, err := NewPeppers(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const value = "a secret"
	var digests []keymanager.Digest
	for generation := range 4 {
		p, err := ParsePeppers(file)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, p.Digest(value))
		for i, d := range digests {
			want := i >= generation-1
			if got := p.Match(d, value); got != want {
				t.Errorf("generation %d: digest of generation %d matches: %v, want %v", generation, i, got, want)
			}
			if p.Match(d, "another secret") {
				t.Errorf("generation %d: matches another secret", generation)
			}
			got, known := p.DigestWith(d.PepperID, value)
			if known != want || (want && got != d) {
				t.Errorf("generation %d: DigestWith(%d) = %v, want %v", generation, d.PepperID, known, want)
			}
		}
		prev, has := p.Previous(value)
		if has != (generation > 0) || (has && prev != digests[generation-1]) {
			t.Errorf("generation %d: previous digest known: %v", generation, has)
		}
		if file, err = RotatePeppers(file, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMatchesNothingWithoutPeppers(t *testing.T) {
	for name, p := range map[string]*Peppers{"nil": nil, "zero": {}} {
		if d := p.Digest("x"); d != (keymanager.Digest{}) {
			t.Errorf("%s Peppers: a digest", name)
		}
		if p.Match(keymanager.Digest{}, "") || p.Match(keymanager.Digest{}, "x") {
			t.Errorf("%s Peppers: match", name)
		}
		if _, ok := p.Previous("x"); ok {
			t.Errorf("%s Peppers: a previous digest", name)
		}
		if _, ok := p.DigestWith(0, "x"); ok {
			t.Errorf("%s Peppers: a digest with pepper 0", name)
		}
	}
}
