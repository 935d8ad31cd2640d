package db

import (
	"strings"
	"testing"
)

func TestInline(t *testing.T) {
	type name string
	n := int64(-7)
	escape := func(s string) (string, error) { return strings.ReplaceAll(s, "'", "''"), nil }
	for _, tc := range []struct {
		query string
		args  []any
		want  string // "" = refused
	}{
		{"SELECT 1", nil, "SELECT 1"},
		{"a - $1", []any{-3}, "a - (-3)"},
		{"$2 $1 $2", []any{"x", name("it's $1")}, "'it''s $1' 'x' 'it''s $1'"},
		{"$1 $2 $3 $4", []any{&n, (*int64)(nil), nil, true}, "(-7) NULL NULL true"},
		{"$1", []any{[]byte{0, 0xff}}, `'\x00ff'`},
		{"$10", []any{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "(10)"},
		{"$2", []any{1}, ""},
		{"$1", []any{"a\x00b"}, ""},
		{"$1", []any{1.5}, ""},
		{"$1", []any{[]string{"a"}}, ""},
	} {
		got, err := inline(tc.query, tc.args, escape)
		if (err != nil) != (tc.want == "") || err == nil && got != tc.want {
			t.Errorf("%q %v: %q, %v; want %q", tc.query, tc.args, got, err, tc.want)
		}
	}
}
