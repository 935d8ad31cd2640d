package authz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"tollgate/keymanager"
)

// A token among the subprotocols lets a browser in, where the API takes it from
// there, and never reaches the back end, wherever it was taken from.
func TestTokenAmongSubprotocols(t *testing.T) {
	feed := petsAPI()
	feed.Protocol = keymanager.WebSocket
	feed.Security = []keymanager.SecurityScheme{keymanager.SchemeOAuth2, keymanager.SchemeOAuth2WebSocket}
	browsers := petsAPI()
	browsers.ID, browsers.Context = "api-browsers", "/browsers"
	browsers.Protocol, browsers.Security = keymanager.WebSocket, feed.Security[1:]
	plain := petsAPI()
	plain.ID, plain.Context = "api-plain", "/plain"
	r := newRig(t, nil, feed, browsers, plain).run(t)
	r.grant(nil)
	const name, mark = "sec-websocket-protocol", "tollgate.bearer"
	offer := func(values ...string) (out []string) {
		for _, v := range values {
			out = append(out, name, v)
		}
		return out
	}
	for _, tt := range []struct {
		what   string
		api    string
		path   string
		with   []string
		status int
		rest   string // what the back end sees; "-" = the header is removed, "" = it is left alone
		answer bool   // the client is told that its mark was chosen
	}{
		{"token alone", "api-pets", "/pets", offer(mark + ", " + goodToken), 200, "-", true},
		{"no space", "api-pets", "/pets", offer(mark + "," + goodToken), 200, "-", true},
		{"beside a protocol", "api-pets", "/pets", offer("chat.v1, " + mark + ",\t" + goodToken + " , chat.v2"), 200, "chat.v1, chat.v2", false},
		{"in two lines", "api-pets", "/pets", offer("chat.v1", mark+", "+goodToken), 200, "chat.v1", false},
		{"mark and token in two lines", "api-pets", "/pets", offer(mark, goodToken), 200, "-", true},
		{"twice", "api-pets", "/pets", offer(mark + ", " + goodToken + ", " + mark + ", " + goodToken), 401, "", false},
		{"beside Authorization", "api-pets", "/pets", append(offer(mark+", "+goodToken), withToken...), 401, "", false},
		{"mark at the end", "api-pets", "/pets", offer("chat.v1, " + mark), 401, "", false},
		{"nothing behind the mark", "api-pets", "/pets", offer(mark + ", , chat.v1"), 401, "", false},
		{"mark in another case", "api-pets", "/pets", offer("Tollgate.Bearer, " + goodToken), 401, "", false},
		{"token without mark", "api-pets", "/pets", offer(goodToken), 401, "", false},
		{"not ours", "api-pets", "/pets", offer(mark + ", tgat_bad"), 401, "", false},
		{"an API key", "api-pets", "/pets", offer(mark + ", " + goodKey), 401, "", false},
		{"more than anybody offers", "api-pets", "/pets", offer(strings.Repeat("x,", maxOffer) + mark + ", " + goodToken), 401, "", false},
		{"more than anybody offers, beside a token", "api-pets", "/pets", append(offer(strings.Repeat("x,", 10_000)+goodToken), withToken...), 200, "-", false},
		{"as many as are looked at", "api-pets", "/pets", offer(mark + "," + goodToken + strings.Repeat(",x", maxOffer-2)), 200, "x" + strings.Repeat(", x", maxOffer-3), false},
		{"no offer", "api-pets", "/pets", withToken, 200, "", false},
		{"a protocol alone", "api-pets", "/pets", append(offer("chat.v1"), withToken...), 200, "", false},
		{"ours, but not announced", "api-pets", "/pets", append(offer("chat.v1, "+goodKey), withToken...), 200, "chat.v1", false},
		{"for browsers alone", "api-browsers", "/browsers", offer(mark + ", " + goodToken), 200, "-", true},
		{"for browsers alone, in Authorization", "api-browsers", "/browsers", withToken, 401, "", false},
		{"not taken from there", "api-plain", "/plain", offer(mark + ", " + goodToken), 401, "", false},
		{"not taken from there, and stripped", "api-plain", "/plain", append(offer(mark+", x, chat.v1"), withToken...), 200, "chat.v1", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			m := r.check(t, call{api: tt.api, path: tt.path + "/1.0.0/items", headers: tt.with})
			if got := see(t, m).status; got != tt.status {
				t.Fatalf("status %d, want %d", got, tt.status)
			}
			ok := m.GetOkResponse()
			rest := headerMap(t, ok.GetHeaders())[name]
			if strings.Contains(strings.Join(ok.GetHeadersToRemove(), " "), name) {
				rest = "-"
			}
			if rest != tt.rest {
				t.Errorf("the back end would see %q, want %q", rest, tt.rest)
			}
			added := ok.GetResponseHeadersToAdd()
			if tt.answer != (len(added) == 1) {
				t.Fatalf("the client is told %v", added)
			}
			if tt.answer && (added[0].GetHeader().GetKey() != name || added[0].GetHeader().GetValue() != mark ||
				added[0].GetAppendAction() != corev3.HeaderValueOption_ADD_IF_ABSENT) {
				t.Errorf("the client is told %v", added)
			}
		})
	}
}

// countingTags counts what is checked: each is a keyed digest.
type countingTags struct{ n *int }

func (c countingTags) Check(keymanager.CredentialKind, string) bool { *c.n++; return false }

// TestCredentialsLookedFor: however much a client sends, little of it is
// checked, and what is not checked does not go on.
func TestCredentialsLookedFor(t *testing.T) {
	n := 0
	if o := readOffer(strings.Repeat(goodToken+",", 400), countingTags{&n}); !o.cut || o.rest != "" || o.count != 0 {
		t.Errorf("of too many subprotocols %+v remains", o)
	}
	if !leaks(strings.Repeat("access_token="+goodToken+"&", 400), "access_token", countingTags{&n}) {
		t.Error("too many parameters go on")
	}
	if leaks(strings.Repeat("access_token=x&", maxLeaks)+strings.Repeat("q=x&", 400), "access_token", countingTags{&n}) {
		t.Error("a back end's own parameters are taken out")
	}
	if n > 4*maxLeaks {
		t.Errorf("%d checks", n)
	}
}
