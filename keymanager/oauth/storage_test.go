package oauth_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/oauth"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

// T32: no token while the store is down, whatever it says.
func TestTokenWhileTheStoreIsDown(t *testing.T) {
	for _, at := range []string{"ClientFacts", "CreateToken"} {
		for _, down := range []error{errDown, errOdd, context.DeadlineExceeded,
			keymanager.Errorf(keymanager.KindConflict, "taken"), keymanager.Errorf(keymanager.KindInternal, "broken row")} {
			r := newRig(t)
			head := r.head()
			r.store.breaks(at, down)
			r.checkUnavailable(r.do(request{auth: []string{r.client.basic()}, body: ccBody}))
			if r.head() != head {
				t.Errorf("%s: something was written", at)
			}
			r.store.breaks(at, nil)
			r.issue(r.client, "")
		}
	}
	// The client vanished between its authentication and the token.
	r := newRig(t)
	r.store.breaks("CreateToken", keymanager.Errorf(keymanager.KindNotFound, "no such client"))
	r.checkUnavailable(r.do(request{auth: []string{r.client.basic()}, body: ccBody}))
}

func TestNoRandomnessNoToken(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) { o.Minter = token.NewMinter(o.Tags, strings.NewReader("")) })
	r.checkUnavailable(r.do(request{auth: []string{r.client.basic()}, body: ccBody}))
	if r.store.count("CreateToken") != 0 {
		t.Error("something was stored")
	}
}

// Every cause is in the log, also one that comes right after another.
func TestFaultsAreLogged(t *testing.T) {
	r := newRig(t)
	for _, cause := range []string{"no database", "no disk space"} {
		r.store.breaks("ClientFacts", keymanager.Errorf(keymanager.KindUnavailable, "%s", cause))
		r.checkUnavailable(r.do(request{auth: []string{r.client.basic()}, body: ccBody}))
		if log := r.log.String(); !strings.Contains(log, "request could not be served") || !strings.Contains(log, cause) {
			t.Errorf("%q is not in the log:\n%s", cause, log)
		}
	}
}

// A panic is one request's 503.
func TestPanicIsNoAnswer(t *testing.T) {
	r := newRig(t, func(o *oauth.Options) { o.Store = panicky{o.Store} })
	r.checkUnavailable(r.do(request{auth: []string{r.client.basic()}, body: ccBody}))
	if log := r.log.String(); !strings.Contains(log, "panic") || !strings.Contains(log, "client.go") {
		t.Errorf("the log does not show where:\n%s", log)
	}
}

type panicky struct{ oauth.Store }

func (panicky) ClientFacts(context.Context, keymanager.ConsumerKey) (*store.ClientFacts, error) {
	panic("canary")
}

// Nothing of what is secret is in the files of the store or in the log, after
// all that can be done with it.
func TestOnlyDigestsAreStored(t *testing.T) {
	r := newRig(t)
	secrets := []string{r.client.secret}
	for range 20 {
		secrets = append(secrets, r.issue(r.client, ""))
	}
	r.revoke(r.client, secrets[1], "")
	r.introspect(r.client.basic(), secrets[2])
	r.introspect("Bearer "+secrets[3], secrets[2])
	r.introspect(r.client.basic(), "not a token but secret all the same")
	r.do(request{auth: []string{"Basic mistaken-for-a-scheme"}, body: ccBody})
	r.do(request{auth: []string{credentials{secrets[4], secrets[5]}.basic()}, body: ccBody})
	r.store.breaks("TokenFacts", errors.New("down"))
	r.introspect(r.client.basic(), secrets[6])
	secrets = append(secrets, "not a token but secret all the same", "mistaken-for-a-scheme")

	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	r.ok(err)
	if len(files) == 0 {
		t.Fatal("no files of the store")
	}
	read := map[string][]byte{"the log": []byte(r.log.String())}
	for _, name := range files {
		content, err := os.ReadFile(name)
		r.ok(err)
		read[name] = content
	}
	for where, content := range read {
		for _, secret := range secrets {
			// Also without its prefix and checksum.
			if bytes.Contains(content, []byte(strings.TrimPrefix(secret, "tgat_")[:20])) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
	if !bytes.Contains(read["the log"], []byte("token revoked")) {
		t.Error("the log has not been read")
	}
}
