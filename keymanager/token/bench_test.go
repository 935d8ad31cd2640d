package token

import (
	"crypto/rand"
	"strings"
	"testing"

	"tollgate/keymanager"
)

func BenchmarkCheck(b *testing.B) {
	tags := newTags(b)
	value := mint(b, NewMinter(tags, rand.Reader).AccessToken)
	forged := mint(b, NewMinter(newTags(b), rand.Reader).AccessToken)
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"ours", value, true},
		{"forged", forged, false},
		{"checksum wrong", value[:Length-1] + "-", false},
		{"random", strings.Repeat("x", 40), false},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if tags.Check(keymanager.AccessToken, tt.value) != tt.want {
					b.Fatal("wrong answer")
				}
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				tags.Check(keymanager.AccessToken, value)
			}
		})
	})
}

func BenchmarkDigest(b *testing.B) {
	file, err := NewPeppers(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	p, err := ParsePeppers(file)
	if err != nil {
		b.Fatal(err)
	}
	value := mint(b, NewMinter(newTags(b), rand.Reader).AccessToken)
	b.ReportAllocs()
	for b.Loop() {
		p.Digest(value)
	}
}

func BenchmarkMinter(b *testing.B) {
	m := NewMinter(newTags(b), rand.Reader)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.AccessToken(); err != nil {
			b.Fatal(err)
		}
	}
}
