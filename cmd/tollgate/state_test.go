package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestStateFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = openState(dir)
	if err == nil || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openState(dir); err != nil {
		t.Fatalf("after the first is closed: %v", err)
	}
	_ = s.Close()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that others can read: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(file); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// The path of a Unix socket is short: a deep state folder gets a short folder
// beside it, the same each time.
func TestStateFolderTooDeepForSockets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 25))
	var sockets []string
	for range 2 {
		s, err := openState(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := s.Socket(fileAuthzSock)
		t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(path)) })
		l, err := listenUnix(t.Context(), "authz", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		_ = s.Close()
		sockets = append(sockets, path)
	}
	if sockets[0] != sockets[1] || len(sockets[0]) > maxSocketPath {
		t.Errorf("sockets %v", sockets)
	}
}

func TestPrivateFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.json")
	type content struct{ A string }
	for _, a := range []string{"one", "two"} {
		if err := writePrivateJSON(path, content{a}); err != nil {
			t.Fatal(err)
		}
		var got content
		if err := readPrivateJSON(path, &got); err != nil || got.A != a {
			t.Errorf("read %v, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := createPrivate(path, []byte("x")); err == nil {
		t.Error("an existing file was overwritten")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	var got content
	if err := readPrivateJSON(path, &got); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that the world can read: %v", err)
	}
	if _, err := readSecretFile(path); err == nil {
		t.Error("a secret that the world can read")
	}
	if err := writePrivate(filepath.Join(dir, "none", "f"), nil); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

func TestListenTaken(t *testing.T) {
	first, err := listenTCP(t.Context(), "ops", "--ops", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	address := first.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	err = takenError("ops", "--ops", address)
	want := fmt.Sprintf("ops: port %s is taken (%s) by process %d (", port, address, os.Getpid())
	if !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "choose another port with --ops") {
		t.Errorf("error %q", err)
	}
	if _, err := listenTCP(t.Context(), "ops", "--ops", address); err == nil || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("error %v", err)
	}
	if holder := portHolder("1"); holder != "" {
		t.Errorf("port 1 is held by %q", holder)
	}
}
