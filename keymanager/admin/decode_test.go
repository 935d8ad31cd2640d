package admin

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollgate/keymanager"
)

// Every schema survives the way to JSON and back, and is then no different.
func TestSchemasRoundTrip(t *testing.T) {
	t.Run("Organization", roundTrip[OrganizationSpec])
	t.Run("Tier", roundTrip[TierSpec])
	t.Run("User", roundTrip[UserSpec])
	t.Run("API", roundTrip[APISpec])
	t.Run("Application", roundTrip[ApplicationSpec])
	t.Run("Key", roundTrip[KeySpec])
	t.Run("Subscription", roundTrip[SubscriptionSpec])
	t.Run("NewKey", roundTrip[NewKey])
	t.Run("NewSecret", roundTrip[NewSecret])
	t.Run("NewAPIKey", roundTrip[NewAPIKey])
	t.Run("State", roundTrip[StateBody])
}

func roundTrip[S any](t *testing.T) {
	gen := rapid.MakeCustom[S](rapid.MakeConfig{})
	rapid.Check(t, func(t *rapid.T) {
		in := gen.Draw(t, "spec")
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		v, problems, err := parseJSON(data)
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		var out S
		decodeInto(&out, v, "", &problems)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if diff := cmp.Diff(in, out, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if diff, err := differences(out, out, ""); err != nil || len(diff) > 0 {
			t.Fatal(diff, err)
		}
	})
}

// Whatever comes, reading it ends with a value or a reason, and what is read is
// what encoding/json reads.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[]`, `{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `"\ud800"`, `1e999`, ` {"a": }`, `{"kind":"API","spec":{"context":"/x"}}`, strings.Repeat("[", 50)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, twice, err := parseJSON(data)
		if err != nil {
			return
		}
		if !utf8.Valid(data) || !json.Valid(data) {
			t.Fatalf("read %q", data)
		}
		again, err := treeOf(v)
		if err != nil {
			t.Fatal(err)
		}
		if len(twice) == 0 && !cmp.Equal(v, again) {
			t.Fatalf("%v\n%v", v, again)
		}
		var problems []keymanager.FieldError
		var req ApplyRequest
		decodeInto(&req, v, "", &problems)
		decodeInto(&APISpec{}, v, "", &problems)
		decodeInto(&SubscriptionSpec{}, v, "", &problems)
	})
}

func TestDifferences(t *testing.T) {
	for _, tt := range []struct{ before, after, want string }{
		{`{}`, `{}`, ``},
		{`{"a":1}`, `{"a":1}`, ``},
		{`{"a":1}`, `{"a":2}`, `[{"pointer":"/a","before":1,"after":2}]`},
		{`{"a":1}`, `{}`, `[{"pointer":"/a","before":1}]`},
		{`{}`, `{"a/b":{"c":1}}`, `[{"pointer":"/a~1b","after":{"c":1}}]`},
		{`{"a":[1,2]}`, `{"a":[1,3,4]}`, `[{"pointer":"/a/1","before":2,"after":3},{"pointer":"/a/2","after":4}]`},
		{`{"a":[1,2]}`, `{"a":[2]}`, `[{"pointer":"/a/0","before":1,"after":2},{"pointer":"/a/1","before":2}]`},
		{`{"a":{"b":{"c":1}}}`, `{"a":{"b":{"d":1}}}`, `[{"pointer":"/a/b/c","before":1},{"pointer":"/a/b/d","after":1}]`},
		{`{"a":[1]}`, `{"a":{"0":1}}`, `[{"pointer":"/a","before":[1],"after":{"0":1}}]`},
	} {
		got, err := differences(json.RawMessage(tt.before), json.RawMessage(tt.after), "")
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		if got != nil {
			data, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if text != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.before, tt.after, text, tt.want)
		}
	}
}
