package authz

import (
	"strings"
	"testing"

	"tollgate/keymanager"
)

func TestKeyInTheQuery(t *testing.T) {
	api := petsAPI()
	api.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeAPIKey, keymanager.SchemeAPIKeyQuery}
	r := newRig(t, nil, api).run(t)
	r.grant(nil)
	for _, tt := range []struct {
		name, query string
		with        []string
		want        seen
		removed     string // parameters
	}{
		{"key", "apikey=" + goodKey, nil, seen{status: 200}, "apikey"},
		{"key among others", "b=2&apikey=" + goodKey + "&a=1", nil, seen{status: 200}, "apikey"},
		{"twice", "apikey=" + goodKey + "&apikey=" + goodKey, nil, seen{401, "900901", "several_credentials", false}, ""},
		{"and in the header", "apikey=" + goodKey, withKey, seen{401, "900901", "several_credentials", false}, ""},
		{"and a token", "apikey=" + goodKey, withToken, seen{401, "900901", "several_credentials", false}, ""},
		{"empty", "apikey=", nil, seen{401, "900901", "not_ours", false}, ""},
		{"another name", "APIKEY=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"escaped name", "api%6Bey=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"after a semicolon", "x=1;apikey=" + goodKey, nil, seen{401, "900902", "missing_credential", false}, ""},
		{"escaped value", "apikey=tgak%5Fgood1", nil, seen{401, "900901", "not_ours", false}, ""},
		{"header alone", "a=1", withKey, seen{status: 200}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := r.check(t, call{path: envoyPath + "/items?" + tt.query, headers: tt.with})
			if got := see(t, m); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if got := strings.Join(m.GetOkResponse().GetQueryParametersToRemove(), " "); got != tt.removed {
				t.Errorf("removed from the query: %q, want %q", got, tt.removed)
			}
		})
	}
}
