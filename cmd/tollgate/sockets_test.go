package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/envoy/envoytest"
)

func TestListenUnix(t *testing.T) {
	dir := envoytest.Dir(t)
	path := filepath.Join(dir, "s.sock")
	first, err := listenUnix(t.Context(), "authz", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), "authz", path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a socket in use: %v", err)
	}
	_ = first.(*unixSocket).l.Close() // as after a kill: the file stays
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the socket file is gone: %v", err)
	}
	second, err := listenUnix(t.Context(), "authz", path)
	if err != nil {
		t.Fatalf("a socket left over: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	_ = first.Close() // does not take the successor's socket away
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second socket: %v", err)
	}
	_ = second.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left over")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), "authz", file); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if data, _ := os.ReadFile(file); !bytes.Equal(data, []byte("data")) {
		t.Error("the file was changed")
	}
	if _, err := listenUnix(t.Context(), "authz", filepath.Join(dir, strings.Repeat("x", 120))); err == nil {
		t.Error("a path that is too long")
	}
}

// A socket whose file was removed is there again, and who is connected stays.
func TestSocketFileRemoved(t *testing.T) {
	path := filepath.Join(envoytest.Dir(t), "s.sock")
	l, err := listenUnix(t.Context(), "authz", path)
	if err != nil {
		t.Fatal(err)
	}
	s := l.(*unixSocket)
	served := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				served <- err
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	restore := func(want bool) {
		t.Helper()
		if got, err := s.restore(t.Context()); got != want || err != nil {
			t.Fatalf("restored %v, %v; want %v", got, err, want)
		}
	}
	connect := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	echo := func(conn net.Conn) {
		t.Helper()
		var b [2]byte
		if _, err := conn.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, b[:]); err != nil || string(b[:]) != "hi" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	restore(false)
	first := connect()
	echo(first) // it has been accepted
	for range 2 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		restore(true)
		restore(false)
		echo(connect())
		echo(first)
		if s.replaced() {
			t.Fatal("taken for a successor's")
		}
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.restore(t.Context()); got || err == nil {
		t.Errorf("without its folder: %v, %v", got, err)
	}
	echo(first)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	restore(true)
	echo(connect())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left over")
	}
	restore(false) // it was closed
}
