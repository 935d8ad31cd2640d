package cache

import (
	"testing"

	"pgregory.net/rapid"

	"tollgate/keymanager"
)

func TestKeysAreInjective(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 0, 1, 2, 255}), 0, 6, -1)
	draw := func(t *rapid.T) keymanager.Query {
		return keymanager.Query{
			Credential: keymanager.Credential{
				Kind:  keymanager.CredentialKind(rapid.IntRange(1, 2).Draw(t, "kind")),
				Value: text.Draw(t, "value"),
			},
			API: keymanager.APIID(text.Draw(t, "api")),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		if (a == b) != (KeyOf(a) == KeyOf(b)) {
			t.Fatalf("%+v and %+v", a.API, b.API)
		}
		fresh := a
		fresh.Since = position(7)
		if KeyOf(a) != KeyOf(fresh) {
			t.Fatal("how fresh an answer must be changes its key")
		}
	})
}
