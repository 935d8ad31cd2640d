package rpc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// The journeys take a noun to its message, over the wire, and back.
func overWire[M proto.Message](m, empty M) M {
	b, err := proto.Marshal(m)
	if err == nil {
		err = proto.Unmarshal(b, empty)
	}
	if err != nil {
		panic(err)
	}
	return empty
}

func verdictJourney(v keymanager.Verdict) (keymanager.Verdict, error) {
	m, err := verdictTo(&v)
	if err != nil {
		return keymanager.Verdict{}, err
	}
	back, err := verdictFrom(overWire(m, &pb.Verdict{}))
	if err != nil {
		return keymanager.Verdict{}, err
	}
	return *back, nil
}

func queryJourney(q keymanager.Query) (keymanager.Query, error) {
	m, err := queryTo(q)
	if err != nil {
		return q, err
	}
	return queryFrom(overWire(m, &pb.ValidateRequest{}))
}

func changeJourney(v keymanager.Change) (keymanager.Change, error) {
	m, broken, err := changeTo(v)
	if err != nil || broken != nil {
		return v, fmt.Errorf("to: %w, %w", err, broken)
	}
	back, broken, err := changeFrom(overWire(m, &pb.Change{}))
	if err != nil || broken != nil {
		return v, fmt.Errorf("from: %w, %w", err, broken)
	}
	return back, nil
}

func eventJourney(e keymanager.Event) (keymanager.Event, error) {
	m, err := eventTo(e)
	if err != nil {
		return e, err
	}
	return eventFrom(overWire(m, &pb.Event{}))
}

func stateJourney(s keymanager.GatewayState) (keymanager.GatewayState, error) {
	m, err := stateTo(s)
	if err != nil {
		return s, err
	}
	back, err := stateFrom(overWire(m, &pb.GatewayState{}))
	back.At = s.At // the receiver's
	return back, err
}

// enums are the values of each enumeration, by type.
var enums = map[reflect.Type]reflect.Value{}

func enumValues[N comparable, P ~int32](e enum[N, P]) {
	var all []N
	for n := range e.to {
		all = append(all, n)
	}
	enums[reflect.TypeFor[N]()] = reflect.ValueOf(all)
}

func init() { //nolint:gochecknoinits // a table of tables, for tests
	enumValues(credentialKinds)
	enumValues(reasons)
	enumValues(keyTypes)
	enumValues(userTypes)
	enumValues(subscriptionStates)
	enumValues(messageTypes)
	enumValues(catalogKinds)
	enumValues(protocols)
	enumValues(lifecycleStates)
	enumValues(authTypes)
	enumValues(securitySchemes)
	enumValues(cacheModes)
	enumValues(retryConditions)
	enumValues(gatewayKinds)
	enumValues(gatewayPhases)
}

var exact = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b time.Time) bool { return a == b }), //nolint:staticcheck // also the same to ==, which nouns are compared with
}

// choices returns v once for each of its fields that is one of several, with
// that one alone: those of Dead, Stale, Change and Event.
func choices(t *testing.T, v any, names ...string) []reflect.Value {
	t.Helper()
	var out []reflect.Value
	full := reflect.ValueOf(v).Elem()
	for _, keep := range names {
		one := reflect.New(full.Type()).Elem()
		one.Set(full)
		for _, other := range names {
			if other != keep {
				one.FieldByName(other).SetZero()
			}
		}
		if one.FieldByName(keep).IsZero() {
			t.Fatalf("%s of %s is zero", keep, full.Type())
		}
		out = append(out, one)
	}
	return out
}

// TestEveryField fails when a noun gets a field that the conversion forgets.
func TestEveryField(t *testing.T) {
	d := every{new(int64)}
	one := func(v any) { fill(reflect.ValueOf(v).Elem(), d) }
	for range 8 { // another value of each enumeration every time
		var q keymanager.Query
		one(&q)
		journey(t, q, queryJourney)
		var v keymanager.Verdict
		one(&v)
		journey(t, v, verdictJourney)
		var s keymanager.GatewayState
		one(&s)
		journey(t, s, stateJourney)

		var c keymanager.Change
		one(&c)
		c.Type = keymanager.Item
		for _, x := range choices(t, &c, "API", "Tier", "RemovedAPI", "RemovedTier") {
			journey(t, x.Interface().(keymanager.Change), changeJourney)
		}
		var dead keymanager.Dead
		one(&dead)
		for _, x := range choices(t, &dead, "TokenID", "Family", "ConsumerKey", "User", "UserStore") {
			one := x.Interface().(keymanager.Dead)
			e := keymanager.Event{Mark: c.Mark, Dead: &one, Now: d.time()}
			journey(t, e, eventJourney)
		}
		var stale keymanager.Stale
		one(&stale)
		for _, x := range choices(t, &stale, "Application", "Subscription", "TokenID", "User", "API") {
			one := x.Interface().(keymanager.Stale)
			e := keymanager.Event{Mark: c.Mark, Stale: &one}
			journey(t, e, eventJourney)
		}
	}
	// The fields that are one of several, and those beside them: a new one of
	// these types must be sorted into the lists above.
	for v, want := range map[any]int{
		keymanager.Change{}: 5, keymanager.Event{}: 4, keymanager.Dead{}: 7, keymanager.Stale{}: 5,
	} {
		if n := reflect.TypeOf(v).NumField(); n != want {
			t.Errorf("%T has %d fields, and this test knows %d", v, n, want)
		}
	}
}

// failer is what tests and properties have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func journey[N any](t failer, v N, travel func(N) (N, error)) {
	t.Helper()
	got, err := travel(v)
	if err != nil {
		t.Fatalf("%T: %v\n%+v", v, err, v)
	}
	if diff := cmp.Diff(v, got, exact); diff != "" {
		t.Fatalf("%T changed on its way (-before +after):\n%s", v, diff)
	}
}

// TestRoundTrip draws nouns with everything that may be left out left out.
func TestRoundTrip(t *testing.T) {
	mark := keymanager.Mark{Type: keymanager.Item}
	t.Run("Verdict", rapid.MakeCheck(func(t *rapid.T) {
		var v keymanager.Verdict
		fill(reflect.ValueOf(&v).Elem(), random{t})
		if v.Reason == keymanager.ReasonActive && v.Grant == nil {
			v.Reason = keymanager.ReasonExpired
		}
		journey(t, v, verdictJourney)
	}))
	t.Run("Query", rapid.MakeCheck(func(t *rapid.T) {
		var q keymanager.Query
		fill(reflect.ValueOf(&q).Elem(), random{t})
		q.Credential.Value = string(rapid.SliceOf(rapid.Byte()).Draw(t, "value"))
		journey(t, q, queryJourney)
	}))
	t.Run("API", rapid.MakeCheck(func(t *rapid.T) {
		c := keymanager.Change{Mark: mark, API: &keymanager.API{}}
		fill(reflect.ValueOf(c.API).Elem(), random{t})
		if c.API.MaxStale != nil && rapid.Bool().Draw(t, "none") {
			*c.API.MaxStale = 0 // is not "not set"
		}
		journey(t, c, changeJourney)
	}))
	t.Run("Tier", rapid.MakeCheck(func(t *rapid.T) {
		c := keymanager.Change{Mark: mark, Tier: &keymanager.Tier{}}
		fill(reflect.ValueOf(c.Tier).Elem(), random{t})
		journey(t, c, changeJourney)
	}))
	t.Run("Mark", rapid.MakeCheck(func(t *rapid.T) {
		c := keymanager.Change{}
		fill(reflect.ValueOf(&c.Mark).Elem(), random{t})
		if c.Type == keymanager.Item {
			c.RemovedAPI = "a"
		}
		journey(t, c, changeJourney)
		e := keymanager.Event{Mark: c.Mark, Now: random{t}.time()}
		if c.Type == keymanager.Item {
			e.Stale = &keymanager.Stale{API: "a"}
		}
		journey(t, e, eventJourney)
	}))
	t.Run("GatewayState", rapid.MakeCheck(func(t *rapid.T) {
		s := keymanager.GatewayState{}
		fill(reflect.ValueOf(&s).Elem(), random{t})
		s.ID = "1" + s.ID
		journey(t, s, stateJourney)
	}))
}

// TestEmptyIsNone: an empty list and none are the same, and read as none; an
// empty object is not.
func TestEmptyIsNone(t *testing.T) {
	a := &keymanager.API{Protocol: keymanager.HTTP1, State: keymanager.StatePublished, ID: "a",
		Hosts: []string{}, Security: []keymanager.SecurityScheme{}, Labels: []string{}, CORS: &keymanager.CORS{AllowOrigins: []string{}},
		Backend: keymanager.Backend{Retry: &keymanager.Retry{}, TLS: &keymanager.BackendTLS{}}}
	got, err := changeJourney(keymanager.Change{Mark: keymanager.Mark{Type: keymanager.Item}, API: a})
	if err != nil {
		t.Fatal(err)
	}
	a.Hosts, a.Security, a.Labels, a.CORS = nil, nil, nil, &keymanager.CORS{}
	if diff := cmp.Diff(a, got.API); diff != "" {
		t.Error(diff)
	}
}

// TestEnumsAreComplete reads the constants of package keymanager: each value of
// an enumeration crosses, but for those that mean "not known".
func TestEnumsAreComplete(t *testing.T) {
	constants := map[string]int{}
	files, err := filepath.Glob("../*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST || strings.HasSuffix(name, "_test.go") {
				continue
			}
			typ := ""
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if id, ok := v.Type.(*ast.Ident); ok {
					typ = id.Name
				} else if len(v.Values) > 0 {
					typ = ""
				}
				constants[typ] += len(v.Names)
			}
		}
	}
	constants["Reason"]--       // ReasonUnknown does not cross
	constants["UserType"]++     // none has no name, and crosses
	constants["GatewayPhase"]-- // GONE is what the receiver says of one that reports no more
	for typ, values := range enums {
		if constants[typ.Name()] != values.Len() {
			t.Errorf("%s has %d constants, and the conversion knows %d", typ, constants[typ.Name()], values.Len())
		}
	}
	if n := constants["Kind"]; n != len(kinds) {
		t.Errorf("Kind has %d constants, and status.go knows %d", n, len(kinds))
	}
}
