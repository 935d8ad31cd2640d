package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
)

// crashEnv makes this test binary write to the database it names until it is
// killed, and say what was answered.
const crashEnv = "TOLLGATE_TEST_CRASH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if err := writeUntilKilled(path); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func crashToken(n int) *keymanager.Token {
	t := &keymanager.Token{ConsumerKey: "key", User: "user", IssuedAt: time.UnixMilli(0), ExpiresAt: time.UnixMilli(0).Add(time.Hour)}
	copy(t.ID[:], fmt.Sprintf("%016d", n))
	copy(t.Digest.Sum[:], fmt.Sprintf("%032d", n))
	return t
}

// writeUntilKilled issues and revokes tokens from several goroutines at once.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	s, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{})
	if err != nil {
		return err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	const writers = 4
	var mu sync.Mutex
	failed := make(chan error)
	for w := range writers {
		go func() {
			for n := int(head.Seq)*10 + w; ; n += writers { // numbers that no round before has used
				t := crashToken(n)
				err := s.CreateToken(ctx, t)
				if err == nil {
					_, err = s.RevokeToken(ctx, t.ID, time.UnixMilli(1))
				}
				if err != nil {
					failed <- err
				}
				mu.Lock()
				fmt.Println(n) // answered
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill kills a writing process and looks for what it had answered.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	s, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := crashWorld(t, s)
	answered := map[int]bool{}
	for round := range 4 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		runAndKill(t, path, 40+round*30, answered)
		if s, err = sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{}); err != nil {
			t.Fatal(err)
		}
		checkAfterKill(t, s, w, answered)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// crashWorld has the client that the tokens need, and returns the head.
func crashWorld(t *testing.T, s store.Store) uint64 {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(
		s.CreateOrganization(ctx, &keymanager.Organization{ID: "acme"}),
		s.CreateUser(ctx, &keymanager.User{ID: "user", Organization: "acme", Name: "alice"}),
		s.CreateApplication(ctx, &keymanager.Application{ID: "app", Organization: "acme", Name: "Shop", Owner: "user"}),
		s.CreateClient(ctx, &keymanager.Client{ConsumerKey: "key", ApplicationID: "app"}),
	); err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return head.Seq
}

// runAndKill starts a writer and kills it after it has answered n times.
func runAndKill(t *testing.T, path string, n int, answered map[int]bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if i == n {
			_ = child.Process.Kill() // and read what it has still said
		}
		var number int
		if _, err := fmt.Sscan(lines.Text(), &number); err != nil {
			t.Fatalf("the writer says %q", lines.Text())
		}
		answered[number] = true
	}
	_ = child.Wait() // it was killed
	if len(answered) < n {
		t.Fatalf("the writer ended after %d answers", len(answered))
	}
}

// checkAfterKill checks that everything answered is there, that the log has no
// gap, and that it tells of exactly the tokens that are revoked.
func checkAfterKill(t *testing.T, s store.Store, from uint64, answered map[int]bool) {
	t.Helper()
	ctx := t.Context()
	for n := range answered {
		token, err := s.TokenByDigest(ctx, crashToken(n).Digest)
		if err != nil || token.RevokedAt.IsZero() {
			t.Errorf("token %d: %+v, %v: its revocation was answered", n, token, err)
		}
	}
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Events(ctx, from, 1_000_000) // fails on a gap
	if err != nil || from+uint64(len(events)) != head.Seq {
		t.Fatalf("%d events after %d, head %d: %v", len(events), from, head.Seq, err)
	}
	dead := map[keymanager.TokenID]bool{}
	for _, e := range events {
		if e.Dead == nil || dead[e.Dead.TokenID] {
			t.Errorf("event %d: %+v", e.Seq, e)
			continue
		}
		dead[e.Dead.TokenID] = true
	}
	for n := range answered {
		if !dead[crashToken(n).ID] {
			t.Errorf("token %d: no event", n)
		}
	}
}
