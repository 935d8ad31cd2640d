package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the address of an empty schema of a real Postgres server,
// which is dropped when the test ends. The first call in a process starts a
// server, on a Unix socket in a directory of its own; it ends, and leaves
// nothing behind, when the process does. TOLLGATE_TEST_POSTGRES may name a
// server that runs already.
func Postgres(t testing.TB) (dsn string) {
	t.Helper()
	s, err := startOnce()
	if err != nil {
		t.Fatal(err)
	}
	schema := fmt.Sprintf("t%d_%d", os.Getpid(), numbers.Add(1))
	execute := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also when the test's has ended
		defer cancel()
		conn, err := pgx.Connect(ctx, s.dsn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sql)
		return errors.Join(err, conn.Close(ctx))
	}
	if err := execute("CREATE SCHEMA " + schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execute("DROP SCHEMA " + schema + " CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return withSearchPath(s.dsn, schema)
}

func withSearchPath(dsn, schema string) string {
	if u, err := url.Parse(dsn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		q := u.Query()
		q.Set("search_path", schema)
		u.RawQuery = q.Encode()
		return u.String()
	}
	return dsn + " search_path=" + schema
}

var startOnce = sync.OnceValues(func() (server, error) {
	if dsn := os.Getenv("TOLLGATE_TEST_POSTGRES"); dsn != "" {
		return server{dsn: dsn}, nil
	}
	return start()
})

// server is one that this process may use.
type server struct {
	dsn      string
	lifeline *os.File // the end of a pipe that is held as long as this process lives
}

// serve runs the server until standard input ends, then stops it at once and
// removes its directory: $1 is initdb, $2 postgres, $3 the directory.
const serve = `
"$1" -D "$3/data" -U tollgate -A trust -E UTF8 --locale=C --no-sync >"$3/log" 2>&1 || exit 1
"$2" -D "$3/data" -k "$3" -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=200 >>"$3/log" 2>&1 </dev/null &
pid=$!
read -r _
kill -QUIT $pid
wait $pid
rm -rf "$3"
`

func start() (server, error) {
	initdb, postgres, err := findServer()
	if err != nil {
		return server{}, err
	}
	dir, err := os.MkdirTemp("/tmp", "tollgate-pg-") // a short path: it holds a socket
	if err != nil {
		return server{}, err
	}
	cmd := exec.Command("/bin/sh", "-c", serve, "sh", initdb, postgres, dir)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us alone
	if os.Getuid() == 0 {
		if cmd.SysProcAttr.Credential, err = serverUser(); err != nil {
			return server{}, err
		}
		if err := os.Chown(dir, int(cmd.SysProcAttr.Credential.Uid), int(cmd.SysProcAttr.Credential.Gid)); err != nil {
			return server{}, err
		}
	}
	input, ours, err := os.Pipe()
	if err != nil {
		return server{}, err
	}
	cmd.Stdin = input
	if err := cmd.Start(); err != nil {
		return server{}, err
	}
	_ = input.Close() // the server has its own
	dsn := "postgres://tollgate@/postgres?host=" + url.QueryEscape(dir)
	return server{dsn, ours}, awaitServer(dsn, filepath.Join(dir, "log"))
}

// awaitServer polls until the server answers.
func awaitServer(dsn, log string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			text, _ := os.ReadFile(log)
			return fmt.Errorf("postgres does not start: %w\n%s", err, text)
		}
	}
}

// findServer looks in PATH and where Debian's packages are.
func findServer() (initdb, postgres string, err error) {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range append(dirs, packaged...) {
		initdb, postgres = filepath.Join(dir, "initdb"), filepath.Join(dir, "postgres")
		if executable(initdb) && executable(postgres) {
			return initdb, postgres, nil
		}
	}
	return "", "", errors.New("this test needs a PostgreSQL server: install the distribution's postgresql package, " +
		"or name a running one in TOLLGATE_TEST_POSTGRES (or leave the test out with -tags short)")
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// serverUser is who runs the server when we are root, as which it refuses.
func serverUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("the server does not run as root, and there is no user postgres: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}
