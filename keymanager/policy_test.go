package keymanager_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"tollgate/keymanager"
)

// Whether a state lets a credential pass. Every constant of these types has a
// row: TestEveryStateIsDecided looks for them in the source.
var (
	applicationPasses = map[keymanager.ApplicationStatus]bool{
		"":                             false,
		"SOMETHING_NEW":                false,
		keymanager.ApplicationCreated:  false,
		keymanager.ApplicationApproved: true,
		keymanager.ApplicationRejected: false,
	}
	userPasses = map[keymanager.UserStatus]bool{
		"":                      false,
		"SOMETHING_NEW":         false,
		keymanager.UserActive:   true,
		keymanager.UserDisabled: false,
	}
)

func TestPolicySweep(t *testing.T) {
	now := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	expiries := map[string]struct {
		at      time.Time
		expired bool
	}{
		"never":                 {time.Time{}, false},
		"later":                 {now.Add(time.Nanosecond), false},
		"now":                   {now, true},
		"past":                  {now.Add(-time.Hour), true},
		"past, in another zone": {now.Add(-time.Second).In(time.FixedZone("", 5*3600)), true},
	}
	revocations := map[string]time.Time{"live": {}, "revoked": now.Add(-time.Minute), "revoked in the future": now.Add(time.Hour)}

	for app, appPasses := range applicationPasses {
		for owner, ownerPasses := range userPasses {
			for user, userOK := range userPasses {
				p := keymanager.Principal{Application: app, Owner: owner, User: user}
				want := keymanager.ReasonActive
				if !ownerPasses || !userOK {
					want = keymanager.ReasonUserInactive
				}
				if !appPasses {
					want = keymanager.ReasonApplicationInactive
				}
				if got := p.Reason(); got != want {
					t.Errorf("%+v: %d, want %d", p, got, want)
				}
				for expiryName, expiry := range expiries {
					for revocation, revokedAt := range revocations {
						want := want
						if expiry.expired {
							want = keymanager.ReasonExpired
						}
						if !revokedAt.IsZero() {
							want = keymanager.ReasonRevoked
						}
						s := keymanager.Standing{Principal: p, ExpiresAt: expiry.at, RevokedAt: revokedAt}
						if got := s.Reason(now); got != want {
							t.Errorf("%+v, expiry %s, %s: %d, want %d", p, expiryName, revocation, got, want)
						}
					}
				}
			}
		}
	}
}

func TestZeroStandingRefuses(t *testing.T) {
	if got := (keymanager.Standing{}).Reason(time.Now()); got == keymanager.ReasonActive {
		t.Error("the zero Standing is active")
	}
	var r keymanager.Reason
	if r == keymanager.ReasonActive {
		t.Error("the zero Reason is active")
	}
}

// A state that is added without a row above fails here.
func TestEveryStateIsDecided(t *testing.T) {
	for typ, has := range map[string]func(string) bool{
		"ApplicationStatus": func(s string) bool { _, ok := applicationPasses[keymanager.ApplicationStatus(s)]; return ok },
		"UserStatus":        func(s string) bool { _, ok := userPasses[keymanager.UserStatus(s)]; return ok },
	} {
		constants := stringConstants(t, typ)
		if len(constants) == 0 {
			t.Errorf("found no constant of type %s", typ)
		}
		for _, c := range constants {
			if !has(c) {
				t.Errorf("%s %q has no row", typ, c)
			}
		}
	}
}

// stringConstants returns the values of the package's constants of one type.
func stringConstants(t *testing.T, typ string) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, constantsIn(t, file, typ)...)
	}
	return out
}

func constantsIn(t *testing.T, file *ast.File, typ string) []string {
	t.Helper()
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != typ {
			return true
		}
		for _, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

func TestHonouredScopes(t *testing.T) {
	type list = []keymanager.Scope
	for _, tt := range []struct{ credential, application, want list }{
		{nil, list{"tollgate:admin"}, nil},
		{list{"pets:read"}, nil, list{"pets:read"}},
		{list{"tollgate:admin", "pets:read", "tollgate:publish"}, list{"tollgate:publish"}, list{"pets:read", "tollgate:publish"}},
		{list{"tollgate:admin"}, list{"tollgate:admin"}, list{"tollgate:admin"}},
		{list{"tollgate:admin"}, list{"tollgate:administrator", "tollgate:"}, list{}},
		{list{"tollgate:"}, nil, list{}},
	} {
		before := slices.Clone(tt.credential)
		if got := keymanager.HonouredScopes(tt.credential, tt.application); !slices.Equal(got, tt.want) {
			t.Errorf("%v of an application with %v: %v, want %v", tt.credential, tt.application, got, tt.want)
		}
		if !slices.Equal(tt.credential, before) {
			t.Errorf("%v was changed to %v", before, tt.credential)
		}
	}
}
