package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names in the state folder.
const (
	fileLock        = "lock"
	fileLog         = "log.json" // see remembered
	fileDatabase    = "tollgate.db"
	fileTagKey      = "tag.key"
	filePepperKey   = "pepper.key"
	fileAdmin       = "admin.json"
	fileDemo        = "demo.json"
	fileDemoSandbox = "demo-sandbox.json"
	fileDemoApplied = "demo-applied.json"
	fileAuthzSock   = "authz.sock"
	fileXDSSock     = "xds.sock"
	fileRPCSock     = "rpc.sock"
	fileRedisKey    = "redis.key"
	fileTokenSock   = "keymanager.sock"
	fileAdminSock   = "envoy-admin.sock"
	fileEnvoyLog    = "envoy.log"
)

// maxSocketPath is the longest path of a Unix socket on Linux, without its
// final NUL.
const maxSocketPath = 107

// State is the folder of one Tollgate process: 0700, locked while it is open by
// a process that keeps something there.
type State struct {
	Dir     string // absolute
	sockets string // where sockets lie: Dir, or a short folder for a long Dir
	lock    *os.File
}

// openStateFor opens the folder for a process with these roles. One that keeps
// nothing there looks for keys and sockets alone, and does not lock it.
func openStateFor(dir string, r roles) (*State, error) {
	return openFolder(dir, !r.stateless())
}

// openState makes the folder where it is missing, checks that it is private,
// and locks it until Close.
func openState(dir string) (*State, error) { return openFolder(dir, true) }

func openFolder(dir string, lock bool) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := privateDir(dir); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	s := &State{Dir: dir}
	if lock {
		if err := s.takeLock(); err != nil {
			return nil, err
		}
	}
	if s.sockets, err = socketFolder(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.sockets != dir {
		if err := privateDir(s.sockets); err != nil {
			return nil, errors.Join(fmt.Errorf("folder for sockets: %w", err), s.Close())
		}
	}
	return s, nil
}

// socketFolder returns where the sockets of a state folder are: there, or in a
// short folder where the path would be too long for a socket. It is the same
// one every time: an Envoy that outlives us finds the sockets again.
func socketFolder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if len(filepath.Join(dir, fileAdminSock))+len(".new") <= maxSocketPath {
		return dir, nil
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("tollgate-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6]))), nil
}

// privateDir makes dir with mode 0700; one that exists must be ours and
// closed to others.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to user %d, not to this one (%d)", dir, st.Uid, os.Getuid())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o: others can look into it; run chmod 700 %s", dir, mode, dir)
	}
	return nil
}

// takeLock refuses a second process on the same folder. The lock is the
// kernel's and ends with the process, however it ends.
func (s *State) takeLock() error {
	path := s.Path(fileLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("state folder %s is in use by process %s; stop it, or choose another folder with --state",
				s.Dir, describePID(strings.TrimSpace(string(holder))))
		}
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = f.Close()
			return fmt.Errorf("lock %s: %w", path, err)
		}
	}
	s.lock = f
	return nil
}

// Path returns the path of a file in the folder.
func (s *State) Path(name string) string { return filepath.Join(s.Dir, name) }

// Socket returns the path of a Unix socket, short enough for the kernel.
func (s *State) Socket(name string) string { return filepath.Join(s.sockets, name) }

// Close releases the lock.
func (s *State) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// exists reports whether a file is there; any doubt is an error.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// defaultStateDir is the state folder of client commands, which read no
// configuration: the variable that sets it for the servers sets it for them.
func defaultStateDir() string {
	if dir := os.Getenv(envPrefix + "STATE_DIR"); dir != "" {
		return dir
	}
	return defaultConfig().State.Dir
}
