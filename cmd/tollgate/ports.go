package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// takenGrace is how long a start waits for a port to become free: what a
// killed predecessor started is dying beside us.
const takenGrace = 3 * time.Second

// listenTCP listens on address. When it is taken the error names the port,
// the flag that changes it and, where /proc tells, who holds it.
func listenTCP(ctx context.Context, what, flag, address string) (net.Listener, error) {
	deadline := time.Now().Add(takenGrace)
	for {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", address)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, takenError(what, flag, address)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// checkFree refuses an address that somebody listens on: Envoy, which binds
// it later, would only log it.
func checkFree(ctx context.Context, what, flag, address string) error {
	l, err := listenTCP(ctx, what, flag, address)
	if err != nil {
		return err
	}
	return l.Close()
}

func takenError(what, flag, address string) error {
	_, port, _ := net.SplitHostPort(address)
	msg := fmt.Sprintf("%s: port %s is taken (%s)", what, port, address)
	if holder := portHolder(port); holder != "" {
		msg += " by process " + holder
	}
	return fmt.Errorf("%s; stop that, or choose another port with %s", msg, flag)
}

// portHolder names the process that listens on port, or "" where /proc does
// not tell (another user's process, or not Linux).
func portHolder(port string) string {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeningInodes(table, uint16(n), inodes)
	}
	if len(inodes) == 0 {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(link, "socket:[")
		if ok && inodes[strings.TrimSuffix(inode, "]")] {
			return describePID(strings.Split(fd, "/")[2])
		}
	}
	return ""
}

// listeningInodes adds the socket inodes that listen on port to set
// (proc(5), /proc/net/tcp: local address, state 0A, inode in column 10).
func listeningInodes(table string, port uint16, set map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) < 10 || col[3] != "0A" {
			continue
		}
		_, hexPort, _ := strings.Cut(col[1], ":")
		b, err := hex.DecodeString(hexPort)
		if err == nil && len(b) == 2 && uint16(b[0])<<8|uint16(b[1]) == port {
			set[col[9]] = true
		}
	}
}

// plainWord is an argument that can be shown: the name of a subcommand.
var plainWord = regexp.MustCompile(`^[a-z][a-z-]{0,19}$`)

// describePID returns "123 (tollgate dev)". Only the program and a plain first
// word are shown: other arguments may be private.
func describePID(pid string) string {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return "unknown"
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(n) + "/cmdline")
	if err != nil || len(line) == 0 {
		return pid
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	name := filepath.Base(args[0])
	if len(args) > 1 && plainWord.MatchString(args[1]) {
		name += " " + args[1]
	}
	return fmt.Sprintf("%s (%s)", pid, name)
}
