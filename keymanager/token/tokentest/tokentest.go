// Package tokentest makes fresh keys for tests.
package tokentest

import (
	"crypto/rand"
	"testing"

	"tollgate/keymanager/token"
)

// Keys are those of a key manager, and what mints with them.
type Keys struct {
	Tags    *token.TagKeys
	Peppers *token.Peppers
	Minter  *token.Minter
}

// New makes keys, each with one generation.
func New(t testing.TB) Keys {
	t.Helper()
	file := func(content []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	tags, err := token.ParseTagKeys(file(token.NewTagKeys(rand.Reader)))
	if err != nil {
		t.Fatal(err)
	}
	peppers, err := token.ParsePeppers(file(token.NewPeppers(rand.Reader)))
	if err != nil {
		t.Fatal(err)
	}
	return Keys{Tags: tags, Peppers: peppers, Minter: token.NewMinter(tags, rand.Reader)}
}
