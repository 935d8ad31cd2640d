//go:build faults

package sqlstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
	"tollgate/keymanager/store/sqlstore"
	"tollgate/keymanager/store/storetest"
)

// smallDisk mounts a disk of 64 MiB. Who may not mount has the row run in a
// user namespace, where he may, and gets "".
func smallDisk(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "tollgate-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0777")
	if err == nil {
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		return dir
	}
	const inside = "TOLLGATE_TEST_INSIDE"
	if !errors.Is(err, syscall.EPERM) || os.Getuid() == 0 || os.Getenv(inside) != "" {
		t.Fatalf("this row mounts a small disk: %v", err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const capSysAdmin = 21
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	runtime.LockOSThread() // the child ends with the thread that has made it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{capSysAdmin}, Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: ")) {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	}
	return ""
}

// faultDiskFull fills the disk below the data: reading goes on, writing fails
// as "later", and when there is room again, so does writing. A checkpoint that
// the server cannot finish, and may end at, loses nothing that was answered.
func faultDiskFull(t *testing.T) {
	dir := smallDisk(t)
	if dir == "" {
		return
	}
	server := storetest.StartServerIn(t, dir, "max_wal_size=4MB", "min_wal_size=2MB", "wal_recycle=off")
	s := openPostgres(t, server.DSN(), sqlstore.Options{})
	ctx := t.Context()
	from := crashWorld(t, s)
	answered, next := map[int]bool{}, 0
	write := func() error {
		next++
		token := crashToken(next)
		if err := s.CreateToken(ctx, token); err != nil {
			return err
		}
		if _, err := s.RevokeToken(ctx, token.ID, time.UnixMilli(1)); err != nil {
			return err
		}
		answered[next] = true
		return nil
	}
	for range 50 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		fillDisk(t, dir+"/ballast")
		var last error
		within(t, "writing fails", func() bool { last = write(); return last != nil })
		wantUnavailable(t, "writing on a full disk", last)
		within(t, "reading goes on", func() bool {
			_, err := s.TokenByDigest(ctx, crashToken(1).Digest)
			return err == nil
		})
		// A server that cannot finish a checkpoint may end, and then not start
		// until there is room; until then nothing is known.
		err := s.Exec(ctx, "CHECKPOINT")
		t.Logf("checkpoint on the full disk: %v", err)
		if token, err := s.TokenByDigest(ctx, crashToken(1).Digest); err != nil {
			wantUnavailable(t, "reading after the checkpoint", err)
		} else if token.RevokedAt.IsZero() {
			t.Error("a revocation that was answered is not known after the checkpoint")
		}
		if err := os.Remove(dir + "/ballast"); err != nil {
			t.Fatal(err)
		}
		within(t, "the server answers", func() bool {
			if s.Ping(ctx) == nil {
				return true
			}
			if len(server.Processes()) == 1 { // it has given up: somebody starts it
				server.Kill()
				server.Start()
			}
			return false
		})
		within(t, "writing goes on", func() bool { return write() == nil })
	}
	checkAfterKill(t, s, from, answered)
}

func fillDisk(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(block)
	}
	for err = nil; err == nil; {
		_, err = f.Write(block[:1])
	}
	_ = f.Close()
}

// bitFlip: one bit of a table differs from what was written. What shares the
// page cannot be told, as an error and never as "there is none"; all else goes
// on, and somebody is told.
func bitFlip(t *testing.T) {
	server := storetest.StartServer(t)
	ctx := t.Context()
	var text bytes.Buffer
	var mu sync.Mutex
	open := func() *sqlstore.Store {
		s, err := sqlstore.OpenPostgres(ctx, server.DSN(), sqlstore.Options{Logger: slog.New(slog.NewTextHandler(locked{&mu, &text}, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	crashWorld(t, s)
	all := issued(t, s, 0, 300)
	revoke(t, s, all[100:110])
	one := func(query string, args ...any) string {
		t.Helper()
		rows, err := s.Texts(ctx, 1, query, args...)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%s: %q, %v", query, rows, err)
		}
		return rows[0]
	}
	place := func(token *keymanager.Token) int {
		var block int
		at := one("SELECT CAST(ctid AS TEXT) FROM access_token WHERE id = $1", token.ID[:])
		block, err := strconv.Atoi(strings.Trim(strings.SplitN(at, ",", 2)[0], "("))
		if err != nil {
			t.Fatal(err)
		}
		return block
	}
	spoilt := place(all[150])
	var lost, kept []*keymanager.Token
	for _, token := range all {
		if place(token) == spoilt {
			lost = append(lost, token)
		} else {
			kept = append(kept, token)
		}
	}
	if len(lost) == 0 || len(kept) < 100 {
		t.Fatalf("%d tokens on the page, %d on others", len(lost), len(kept))
	}
	file := filepath.Join(server.Dir(), one("SELECT pg_relation_filepath('access_token_primary')"))
	flip := func() {
		server.Exec("CHECKPOINT")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		server.Shutdown()
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const page = 8192
		at, b := int64(spoilt)*page+page-20, make([]byte, 1) // inside the first row of the page
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		server.Start()
		s = open()
	}
	flip()
	defer func() { _ = s.Close() }()
	for _, token := range lost {
		facts, _, err := s.TokenFacts(ctx, token.Digest, "")
		if err == nil || facts != nil || keymanager.IsNotFound(err) || !strings.Contains(err.Error(), "XX001") {
			t.Errorf("a token on the page: %+v, %v", facts, err)
		}
		if now, err := s.RevokeToken(ctx, token.ID, time.Now()); err == nil {
			t.Errorf("a token on the page was revoked: %t", now)
		}
	}
	for i, token := range kept {
		facts, _, err := s.TokenFacts(ctx, token.Digest, "")
		if err != nil || facts == nil {
			t.Errorf("token %d on another page: %+v, %v", i, facts, err)
		}
	}
	if now, err := s.RevokeToken(ctx, kept[0].ID, time.Now()); err != nil || !now {
		t.Errorf("a token on another page is revoked: %t, %v", now, err)
	}
	if _, err := s.InTx(ctx, func(tx store.Store) error { return tx.CreateToken(ctx, crashToken(1000)) }); err != nil {
		t.Errorf("a new token: %v", err)
	}
	mu.Lock()
	told := strings.Contains(text.String(), "the database finds its data damaged")
	mu.Unlock()
	if !told {
		t.Error("damage is not told")
	}
	flip() // back, as a restored copy of the file would
	for _, token := range all {
		if facts, _, err := s.TokenFacts(ctx, token.Digest, ""); err != nil || facts == nil {
			t.Errorf("when the page is whole again: %+v, %v", facts, err)
		}
	}
}
