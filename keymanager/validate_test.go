package keymanager_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollgate/keymanager"
)

// paths returns the pointers of problems, to compare.
func paths(fs []keymanager.FieldError) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Path)
	}
	return out
}

// mutation changes one thing of a good object; want are the pointers of what
// is then wrong.
type mutation[T any] struct {
	name   string
	change func(*T)
	want   []string
}

func run[T any](t *testing.T, good func() *T, validate func(*T) []keymanager.FieldError, table []mutation[T]) {
	t.Helper()
	if got := validate(good()); len(got) > 0 {
		t.Fatalf("the good object: %v", got)
	}
	for _, tt := range table {
		t.Run(tt.name, func(t *testing.T) {
			v := good()
			tt.change(v)
			got := validate(v)
			if diff := cmp.Diff(tt.want, paths(got)); diff != "" {
				t.Errorf("pointers (-want +got):\n%s\n%v", diff, got)
			}
			for _, f := range got {
				if f.Detail == "" {
					t.Errorf("%s has no detail", f.Path)
				}
			}
		})
	}
}

func TestValidateOrganization(t *testing.T) {
	good := func() *keymanager.Organization {
		return &keymanager.Organization{ID: "acme-1.eu", DisplayName: "Akme – Ünïcode"}
	}
	type m = mutation[keymanager.Organization]
	set := func(id keymanager.OrganizationID) func(*keymanager.Organization) {
		return func(o *keymanager.Organization) { o.ID = id }
	}
	name := []string{"/name"}
	run(t, good, keymanager.ValidateOrganization, []m{
		{"one letter", set("a"), nil},
		{"longest", set(keymanager.OrganizationID(strings.Repeat("a", 63))), nil},
		{"empty", set(""), name},
		{"too long", set(keymanager.OrganizationID(strings.Repeat("a", 64))), name},
		{"upper case", set("Acme"), name},
		{"dot dot", set("a..b"), name},
		{"starts with a sign", set("-a"), name},
		{"ends with a sign", set("a."), name},
		{"slash", set("a/b"), name},
		{"NUL", set("a\x00"), name},
		{"not UTF-8", set("a\xff"), name},
		{"display name with a line break", func(o *keymanager.Organization) { o.DisplayName = "a\nb" }, []string{"/displayName"}},
		{"display name not UTF-8", func(o *keymanager.Organization) { o.DisplayName = "\xff" }, []string{"/displayName"}},
		{"display name too long", func(o *keymanager.Organization) { o.DisplayName = strings.Repeat("x", 201) }, []string{"/displayName"}},
	})
}

func TestValidateUser(t *testing.T) {
	good := func() *keymanager.User {
		return &keymanager.User{Name: "jane.doe@example.com", UserStore: "FOO.COM", Email: "jane@example.com", Status: keymanager.UserActive}
	}
	type m = mutation[keymanager.User]
	name := func(s string) func(*keymanager.User) { return func(u *keymanager.User) { u.Name = s } }
	domain := func(s string) func(*keymanager.User) { return func(u *keymanager.User) { u.UserStore = s } }
	email := func(s string) func(*keymanager.User) { return func(u *keymanager.User) { u.Email = s } }
	run(t, good, keymanager.ValidateUser, []m{
		{"primary store", domain(keymanager.PrimaryUserStore), nil},
		{"no e-mail", email(""), nil},
		{"disabled", func(u *keymanager.User) { u.Status = keymanager.UserDisabled }, nil},
		{"no name", name(""), []string{"/name"}},
		{"slash in the name", name("FOO/jane"), []string{"/name"}},
		{"colon in the name", name("a:b"), []string{"/name"}},
		{"space in the name", name("jane doe"), []string{"/name"}},
		{"line break in the name", name("jane\r\n"), []string{"/name"}},
		{"lower-case domain", domain("foo.com"), []string{"/userStore"}},
		{"no domain", domain(""), []string{"/userStore"}},
		{"quote in the domain", domain("A';--"), []string{"/userStore"}},
		{"e-mail with a name", email("Jane <jane@example.com>"), []string{"/email"}},
		{"e-mail without at", email("jane"), []string{"/email"}},
		{"two e-mails", email("a@b.example, c@d.example"), []string{"/email"}},
		{"e-mail with a header", email("a@b.example\r\nBcc: x@y.example"), []string{"/email"}},
		{"e-mail too long", email(strings.Repeat("a", 250) + "@b.example"), []string{"/email"}},
		{"no status", func(u *keymanager.User) { u.Status = "" }, []string{"/status"}},
	})
}

func TestValidateTier(t *testing.T) {
	good := func() *keymanager.Tier {
		return &keymanager.Tier{Name: "50PerMin", DisplayName: "50 a minute", Requests: 50, Unit: time.Minute}
	}
	type m = mutation[keymanager.Tier]
	run(t, good, keymanager.ValidateTier, []m{
		{"an hour", func(v *keymanager.Tier) { v.Unit = time.Hour }, nil},
		{"no name", func(v *keymanager.Tier) { v.Name = "" }, []string{"/name"}},
		{"space in the name", func(v *keymanager.Tier) { v.Name = "a b" }, []string{"/name"}},
		{"negative", func(v *keymanager.Tier) { v.Requests = -1 }, []string{"/requests"}},
		{"no unit", func(v *keymanager.Tier) { v.Unit = 0 }, []string{"/unit"}},
		{"odd unit", func(v *keymanager.Tier) { v.Unit = 7 * time.Second }, []string{"/unit"}},
		{"limited Unlimited", func(v *keymanager.Tier) { v.Name = keymanager.Unlimited }, []string{"/requests"}},
	})
	for _, tier := range keymanager.DefaultTiers("acme") {
		if got := keymanager.ValidateTier(&tier); len(got) > 0 {
			t.Errorf("default tier %s: %v", tier.Name, got)
		}
	}
}

func TestValidateApplication(t *testing.T) {
	good := func() *keymanager.Application {
		return &keymanager.Application{Name: "Web shop 2", Owner: "u1", Tier: "Gold", TokenType: keymanager.OpaqueToken,
			Status: keymanager.ApplicationApproved, Attributes: map[string]string{"cost_center": "42 – ß"},
			Scopes: []keymanager.Scope{keymanager.ScopeAdmin}}
	}
	type m = mutation[keymanager.Application]
	name := func(s string) func(*keymanager.Application) { return func(a *keymanager.Application) { a.Name = s } }
	run(t, good, keymanager.ValidateApplication, []m{
		{"longest name", name(strings.Repeat("a", 100)), nil},
		{"no name", name(""), []string{"/name"}},
		{"name too long", name(strings.Repeat("a", 101)), []string{"/name"}},
		{"space at the end", name("a "), []string{"/name"}},
		{"two spaces", name("a  b"), []string{"/name"}},
		{"tab", name("a\tb"), []string{"/name"}},
		{"line break", name("a\r\nx-tollgate-user: b"), []string{"/name"}},
		{"not ASCII", name("café"), []string{"/name"}},
		{"slash", name("a/b"), []string{"/name"}},
		{"no owner", func(a *keymanager.Application) { a.Owner = "" }, []string{"/owner"}},
		{"no tier", func(a *keymanager.Application) { a.Tier = "" }, []string{"/tier"}},
		{"unknown token type", func(a *keymanager.Application) { a.TokenType = "JWT" }, []string{"/tokenType"}},
		{"no status", func(a *keymanager.Application) { a.Status = "" }, []string{"/status"}},
		{"scope of an API", func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{"pets:read"} }, []string{"/scopes/0"}},
		{"unknown management scope", func(a *keymanager.Application) { a.Scopes = []keymanager.Scope{"tollgate:root"} }, []string{"/scopes/0"}},
		{"scope twice", func(a *keymanager.Application) { a.Scopes = append(a.Scopes, keymanager.ScopeAdmin) }, []string{"/scopes/1"}},
		{"attribute names and values", func(a *keymanager.Application) {
			a.Attributes = map[string]string{"a/b~": "x", "": "y", "ok": "line\nbreak", "large": strings.Repeat("x", 1001)}
		}, []string{"/attributes/", "/attributes/a~1b~0", "/attributes/large", "/attributes/ok"}},
		{"too many attributes", func(a *keymanager.Application) {
			a.Attributes = map[string]string{}
			for i := range 51 {
				a.Attributes["k"+string(rune('0'+i%10))+string(rune('a'+i/10))] = "v"
			}
		}, []string{"/attributes"}},
	})
}

func TestValidateClientAndSecret(t *testing.T) {
	good := func() *keymanager.Client {
		return &keymanager.Client{KeyType: keymanager.Production, GrantTypes: []string{keymanager.GrantClientCredentials}, TokenLifetime: time.Hour}
	}
	type m = mutation[keymanager.Client]
	run(t, good, keymanager.ValidateClient, []m{
		{"sandbox, post, default lifetime", func(c *keymanager.Client) {
			*c = keymanager.Client{KeyType: keymanager.Sandbox, AuthMethod: keymanager.AuthMethodPost}
		}, nil},
		{"no key type", func(c *keymanager.Client) { c.KeyType = "" }, []string{"/keyType"}},
		{"unknown grant", func(c *keymanager.Client) { c.GrantTypes = []string{"password"} }, []string{"/grantTypes/0"}},
		{"grant twice", func(c *keymanager.Client) { c.GrantTypes = append(c.GrantTypes, c.GrantTypes[0]) }, []string{"/grantTypes/1"}},
		{"method none", func(c *keymanager.Client) { c.AuthMethod = "none" }, []string{"/authMethod"}},
		{"negative lifetime", func(c *keymanager.Client) { c.TokenLifetime = -1 }, []string{"/tokenLifetime"}},
		{"too long", func(c *keymanager.Client) { c.TokenLifetime = keymanager.MaxTokenLifetime + time.Second }, []string{"/tokenLifetime"}},
		{"half a second", func(c *keymanager.Client) { c.TokenLifetime = 500 * time.Millisecond }, []string{"/tokenLifetime"}},
	})
	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		at time.Time
		ok bool
	}{{time.Time{}, true}, {now.Add(time.Second), true}, {now, false}, {now.Add(-time.Hour), false}} {
		if got := keymanager.ValidateSecret(&keymanager.ClientSecret{ExpiresAt: tt.at}, now); (len(got) == 0) != tt.ok {
			t.Errorf("secret that expires %v: %v", tt.at, got)
		}
	}
}

func TestValidateAPIKey(t *testing.T) {
	now := time.Unix(1e9, 0)
	good := func() *keymanager.APIKey {
		return &keymanager.APIKey{Name: "ci", KeyType: keymanager.Sandbox, ExpiresAt: now.Add(time.Hour),
			Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
			Referers: []string{"https://app.example.com/*", "*.example.org/*"}}
	}
	type m = mutation[keymanager.APIKey]
	nets := func(n ...netip.Prefix) func(*keymanager.APIKey) {
		return func(k *keymanager.APIKey) { k.Networks = n }
	}
	refs := func(s ...string) func(*keymanager.APIKey) {
		return func(k *keymanager.APIKey) { k.Referers = s }
	}
	run(t, good, func(k *keymanager.APIKey) []keymanager.FieldError { return keymanager.ValidateAPIKey(k, now) }, []m{
		{"no restrictions, no expiry", func(k *keymanager.APIKey) {
			k.Networks, k.Referers, k.ExpiresAt = nil, nil, time.Time{}
		}, nil},
		{"no name", func(k *keymanager.APIKey) { k.Name = "" }, []string{"/name"}},
		{"no key type", func(k *keymanager.APIKey) { k.KeyType = "" }, []string{"/keyType"}},
		{"expired", func(k *keymanager.APIKey) { k.ExpiresAt = now }, []string{"/expiresAt"}},
		{"zero network", nets(netip.Prefix{}), []string{"/networks/0"}},
		{"host bits", nets(netip.MustParsePrefix("10.0.0.1/8")), []string{"/networks/0"}},
		{"mapped", nets(netip.MustParsePrefix("::ffff:10.0.0.0/104")), []string{"/networks/0"}},
		{"network twice", nets(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")), []string{"/networks/1"}},
		{"too many", nets(make([]netip.Prefix, 51)...), []string{"/networks"}},
		{"empty referer", refs(""), []string{"/referers/0"}},
		{"space", refs("a b"), []string{"/referers/0"}},
		{"not ASCII", refs("ok", "caf\xc3\xa9"), []string{"/referers/1"}},
		{"referer too long", refs(strings.Repeat("a", 301)), []string{"/referers/0"}},
	})
}

func TestParseNetworks(t *testing.T) {
	good := map[string]string{
		"192.0.2.7": "192.0.2.7/32", "10.0.0.0/8": "10.0.0.0/8", "2001:db8::1": "2001:db8::1/128", "::/0": "::/0",
		"2001:DB8:0:0::/32": "2001:db8::/32",
	}
	for in, want := range good {
		got, err := keymanager.ParseNetwork(in)
		if err != nil || got.String() != want {
			t.Errorf("ParseNetwork(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
	bad := []string{"", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "010.0.0.1", "10.0.0", "fe80::1%eth0", "fe80::/10%eth0",
		"::ffff:10.0.0.1", "::ffff:10.0.0.0/104", " 10.0.0.1", "localhost", "10.0.0.1-10.0.0.9", "10.0.0.0/8/8", "\xff"}
	for _, in := range bad {
		if got, err := keymanager.ParseNetwork(in); err == nil {
			t.Errorf("ParseNetwork(%q) = %v, want an error", in, got)
		}
	}
	nets, problems := keymanager.ParseNetworks("/networks", append([]string{"192.0.2.7"}, "x"))
	if len(nets) != 1 || !cmp.Equal(paths(problems), []string{"/networks/1"}) {
		t.Errorf("ParseNetworks = %v, %v", nets, problems)
	}
	if nets, problems := keymanager.ParseNetworks("/n", make([]string, 51)); nets != nil || !cmp.Equal(paths(problems), []string{"/n"}) {
		t.Errorf("too many: %v, %v", nets, problems)
	}
}

func TestValidateSubscription(t *testing.T) {
	good := func() *keymanager.Subscription {
		return &keymanager.Subscription{Name: "shop-pets", ApplicationID: "a", APIID: "p", Tier: "Gold", State: keymanager.Unblocked}
	}
	type m = mutation[keymanager.Subscription]
	run(t, good, keymanager.ValidateSubscription, []m{
		{"pending", func(s *keymanager.Subscription) { s.State, s.PendingTier = keymanager.TierUpdatePending, "Silver" }, nil},
		{"no name", func(s *keymanager.Subscription) { s.Name = "" }, []string{"/name"}},
		{"no application", func(s *keymanager.Subscription) { s.ApplicationID = "" }, []string{"/application"}},
		{"no API", func(s *keymanager.Subscription) { s.APIID = "" }, []string{"/api"}},
		{"no tier", func(s *keymanager.Subscription) { s.Tier = "" }, []string{"/tier"}},
		{"tier of nobody", func(s *keymanager.Subscription) { s.Tier = keymanager.Unauthenticated }, []string{"/tier"}},
		{"no state", func(s *keymanager.Subscription) { s.State = "" }, []string{"/state"}},
		{"pending without a tier", func(s *keymanager.Subscription) { s.State = keymanager.TierUpdatePending }, []string{"/pendingTier"}},
		{"a tier without pending", func(s *keymanager.Subscription) { s.PendingTier = "Silver" }, []string{"/pendingTier"}},
	})
}
