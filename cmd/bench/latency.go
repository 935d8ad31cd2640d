package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// benchLatency is the latency budget: a request to an echo behind one Envoy
// worker, without and with authz over a Unix socket, at several concurrencies.
// The time that Envoy's access log gives to ext_authz has to agree with what is
// added.
func benchLatency(ctx context.Context, out io.Writer, c *credentials, rounds int) error {
	binary, err := envoyBinary()
	if err != nil {
		return err
	}
	authz, err := startSelf(ctx, "authz", filepath.Join(c.dir, "authz.sock"), c.dir)
	if err != nil {
		return err
	}
	defer authz.stop()
	// The back end is another machine: not on the core that is measured.
	echo, err := startSelfOn(ctx, clientCore, "echo", filepath.Join(c.dir, "echo.sock"), c.dir)
	if err != nil {
		return err
	}
	defer echo.stop()
	log := filepath.Join(c.dir, "access.log")
	requests := httpRequests(c.sample())
	var envoys []*server
	for i, v := range []envoyVariant{
		{backend: echo.socket, accessLog: log + ".without"},
		{backend: echo.socket, accessLog: log, authzSocket: authz.socket, api: string(benchAPI), rev: strconv.FormatUint(benchRev(), 10)},
	} {
		s, err := startEnvoy(ctx, binary, c.dir, i, v)
		if err != nil {
			return err
		}
		defer s.stop()
		envoys = append(envoys, s)
	}
	fmt.Fprintln(out, "\nLatency budget: an echo behind one Envoy worker, without and with authz over a Unix socket")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "in flight\tn\twithout: req/s\tp50 µs\tp99 µs\twith: req/s\tp50 µs\tp99 µs\tadded p50 µs\tadded p99 µs\text_authz in the log: p50 µs\tp99 µs\terrors\t\n")
	for _, inFlight := range []int{1, 64, 512} {
		var vs []variant
		for i, name := range []string{"without", "with"} {
			vs = append(vs, variant{name, loadOptions{Addr: envoys[i].addr(), Proto: "h1", Payloads: requests, InFlight: inFlight, Status: 200,
				Warm: 150 * time.Millisecond, Measure: 350 * time.Millisecond, PIDs: []int{envoys[i].pid(), authz.pid()}, Behind: []int{echo.pid()}}})
		}
		from, err := size(log)
		if err != nil {
			return err
		}
		samples, err := compare(rounds, vs)
		if err != nil {
			return err
		}
		logged, err := loggedTimes(ctx, log, from)
		if err != nil {
			return err
		}
		figures := func(name string) (rate, p50, p99 float64) {
			s := samples[name]
			return median(s, func(s sample) float64 { return s.Rate }), median(s, func(s sample) float64 { return s.P50 }), median(s, func(s sample) float64 { return s.P99 })
		}
		rate0, p500, p990 := figures("without")
		rate1, p501, p991 := figures("with")
		var failed uint64
		for _, all := range samples {
			for _, s := range all {
				failed += s.Errors
			}
		}
		fmt.Fprintf(w, "%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%+.0f\t%+.0f\t%.0f\t%.0f\t%d\t\n", inFlight, len(samples["with"]),
			rate0, p500, p990, rate1, p501, p991, p501-p500, p991-p990, at(logged, 0.5), at(logged, 0.99), failed)
	}
	return nil
}

func size(file string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// loggedTimes reads what the access log gives to ext_authz, in microseconds,
// behind an offset. Envoy writes the log now and then: it waits until there is
// no more.
func loggedTimes(ctx context.Context, file string, from int64) ([]float64, error) {
	for last := int64(-1); ; {
		n, err := size(file)
		if err != nil {
			return nil, err
		}
		if n == last && n > from {
			break
		}
		last = n
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(2 * logFlush):
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	var out []float64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if us, err := strconv.ParseFloat(lines.Text(), 64); err == nil {
			out = append(out, us)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the access log does not tell the time of ext_authz")
	}
	slices.Sort(out)
	return out, nil
}

// serveEcho answers each request with its path.
func serveEcho(ctx context.Context, l net.Listener) error {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
	})}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
