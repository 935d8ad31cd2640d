package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(asTollgate) != "" {
		os.Exit(run(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// recorder is a task that notes when it is told to end.
type recorder struct {
	mu    sync.Mutex
	ended []string
}

func (r *recorder) task(name string, failure error) task {
	return task{name, func(ctx context.Context) error {
		if failure != nil {
			return failure
		}
		<-ctx.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, name)
		return nil
	}}
}

func TestStagesEndInOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{}
	started := make(chan struct{})
	done := make(chan error)
	go func() {
		done <- runStages(ctx,
			[]task{r.task("store", nil)},
			[]task{r.task("servers", nil)},
			[]task{r.task("envoy", nil), {"once", func(context.Context) error { close(started); return nil }}},
		)
	}()
	<-started
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Join(r.ended, " "); got != "envoy servers store" {
		t.Errorf("ended in the order %s", got)
	}
}

func TestStagesEndWhenOneFails(t *testing.T) {
	r := &recorder{}
	broken := errors.New("broken")
	err := runStages(t.Context(), []task{r.task("store", nil)}, []task{r.task("server", broken)}, []task{r.task("envoy", nil)})
	if !errors.Is(err, broken) || err.Error() != "server: broken" {
		t.Errorf("error %v", err)
	}
	if got := strings.Join(r.ended, " "); got != "envoy store" {
		t.Errorf("ended: %s", got)
	}
}

// A request that has begun is answered although the process ends.
func TestHTTPTaskDrains(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-goOn
			w.WriteHeader(http.StatusNoContent)
		})
		served <- runStages(ctx, []task{httpTask("http", l, handler, maxTestWait, newLogger(t.Output(), LogConfig{Level: "info"}))})
	}()
	answered := make(chan int, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	<-begun
	cancel()
	close(goOn)
	if status := <-answered; status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// An answer that nobody takes ends with its time, and with it the handler.
func TestUntakenAnswerEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	server := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for chunk := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(chunk)
		}
		ended <- err
	}), slog.New(slog.DiscardHandler))
	if least := 4 * time.Minute; server.WriteTimeout < least { // reading, applying and waiting for gateways
		t.Errorf("an answer may take %v, want %v", server.WriteTimeout, least)
	}
	server.WriteTimeout = 50 * time.Millisecond
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the handler goes on")
	}
}
