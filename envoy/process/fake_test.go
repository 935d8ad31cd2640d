package process

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary plays Envoy when the variable fakeEnvoy is set: it takes the
// same arguments, and what it does depends on the value.
const fakeEnvoy = "TOLLGATE_TEST_FAKE_ENVOY"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(fakeEnvoy); mode {
	case "":
		goleak.VerifyTestMain(m)
	case "parent": // starts an Envoy and waits to be killed
		if err := os.Setenv(fakeEnvoy, "live"); err != nil {
			panic(err)
		}
		p, err := Start(Options{Binary: os.Args[0], Dir: os.Args[1]})
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
		select {}
	default:
		os.Exit(playEnvoy(mode))
	}
}

func playEnvoy(mode string) int {
	for _, a := range os.Args {
		if a == "--version" {
			fmt.Printf("\nenvoy  version: 9e5580933739/%s/Clean/RELEASE/BoringSSL\n", mode)
			return 0
		}
	}
	switch mode {
	case "broken":
		for i := range 100 {
			fmt.Fprintf(os.Stderr, "line %d\n", i)
		}
		fmt.Fprint(os.Stderr, "no such field: nope")
		return 1
	case "chatty": // more than a pipe holds
		line := strings.Repeat("x", 1023) + "\n"
		for range 200 {
			fmt.Print(line)
			fmt.Fprint(os.Stderr, line)
		}
	case "stubborn": // neither it nor its child ends on SIGTERM
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("sleep", "600")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Println(child.Process.Pid)
	}
	state, status := "LIVE\n", http.StatusOK
	if mode == "waiting" {
		state, status = "PRE_INITIALIZING\n", http.StatusServiceUnavailable
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(state))
	})
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("control_plane.connected_state: 0\n"))
	})
	mux.HandleFunc("/listeners", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"listener_statuses":[{"name":"tcp-8080","local_address":` +
			`{"socket_address":{"address":"127.0.0.1","port_value":31337}}}]}`))
	})
	for i, a := range os.Args {
		if a == "--admin-address-path" {
			if err := os.WriteFile(os.Args[i+1], []byte(lis.Addr().String()), 0o600); err != nil {
				panic(err)
			}
		}
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	panic(srv.Serve(lis))
}
