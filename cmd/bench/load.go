package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// loadOptions says what to send where, and how hard.
type loadOptions struct {
	Addr     string // host:port, or unix:/path
	Proto    string // "grpc": unary calls, messages of Payloads; "h1": whole HTTP/1.1 requests
	Method   string // grpc: method path
	Payloads [][]byte
	InFlight int // calls in flight over all connections
	Conns    int // grpc only; h1 has one for each call in flight
	Warm     time.Duration
	Measure  time.Duration
	Status   int   // h1: the status that counts as right
	PIDs     []int // servers whose CPU is accounted
	Behind   []int // what they depend on: its CPU is not accounted, nor foreign
	// Want is what every gRPC reply message must contain: the verdict of a
	// CheckResponse, not only the grpc-status of the call, is checked.
	Want []byte
}

// loadResult is one measured window. Times are microseconds.
type loadResult struct {
	Requests  uint64
	Rate      float64 // requests per second
	P50, P99  float64
	ServerCPU []float64 // per request, for each of PIDs
	ClientCPU float64   // per request
	Foreign   float64   // share of the machine that other programs took, percent
	Errors    uint64
	Wrong     string // the first wrong answer
}

// generator drives a closed loop: one event loop per connection, as Envoy's
// workers do. It is cheap on purpose, so that on two cores the server and not
// the client is the limit.
type generator struct {
	opts      loadOptions
	measuring atomic.Bool
	stopped   atomic.Bool
	clients   []*client
	fail      chan error
}

// client is the state that both protocols share.
type client struct {
	gen    *generator
	conn   net.Conn
	reader *bufio.Reader
	next   int // payload to send
	hist   histogram
	errors uint64
	wrong  string
}

func (c *client) payload() []byte {
	p := c.gen.opts.Payloads[c.next]
	if c.next++; c.next == len(c.gen.opts.Payloads) {
		c.next = 0
	}
	return p
}

func (c *client) count(d time.Duration, wrong string) {
	if !c.gen.measuring.Load() {
		return
	}
	c.hist.add(uint64(d))
	if wrong != "" {
		c.errors++
		if c.wrong == "" {
			c.wrong = wrong
		}
	}
}

func dialAddr(addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", addr)
}

// load runs one window and returns what it measured.
func load(o loadOptions) (*loadResult, error) {
	if len(o.Payloads) == 0 {
		o.Payloads = [][]byte{nil}
	}
	if o.Proto == "h1" {
		o.Conns = o.InFlight
	}
	o.Conns = min(max(o.Conns, 1), o.InFlight)
	g := &generator{opts: o, fail: make(chan error, o.Conns)}
	var wg sync.WaitGroup
	for i := range o.Conns {
		conn, err := dialAddr(o.Addr)
		if err != nil {
			return nil, err
		}
		c := &client{gen: g, conn: conn, reader: bufio.NewReaderSize(conn, 256<<10), next: i * 7 % len(o.Payloads)}
		g.clients = append(g.clients, c)
		run := c.runH1
		if o.Proto == "grpc" {
			n := o.InFlight / o.Conns
			if i < o.InFlight%o.Conns {
				n++
			}
			run = newH2Client(c, n).run
		}
		wg.Go(func() {
			if err := run(); err != nil && !g.stopped.Load() {
				g.fail <- err
			}
		})
	}
	r, err := g.window()
	g.stopped.Store(true)
	for _, c := range g.clients {
		_ = c.conn.Close()
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	var h histogram
	for _, c := range g.clients {
		h.merge(&c.hist)
		r.Errors += c.errors
		if r.Wrong == "" {
			r.Wrong = c.wrong
		}
	}
	r.P50, r.P99 = h.quantile(0.5), h.quantile(0.99)
	return r.perRequest(h.count), nil
}

// window warms up, measures, and returns totals; perRequest divides them.
func (g *generator) window() (*loadResult, error) {
	wait := func(d time.Duration) error {
		select {
		case err := <-g.fail:
			return fmt.Errorf("%s: %w", g.opts.Addr, err)
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(g.opts.Warm); err != nil {
		return nil, err
	}
	behind := cpuOf(g.opts.Behind)
	before := make([]float64, len(g.opts.PIDs))
	for i, pid := range g.opts.PIDs {
		before[i] = processCPU(pid)
	}
	self := ownCPU()
	busy, stolen, total := machineCPU()
	start := time.Now()
	g.measuring.Store(true)
	if err := wait(g.opts.Measure); err != nil {
		return nil, err
	}
	g.measuring.Store(false)
	r := &loadResult{ClientCPU: ownCPU() - self}
	elapsed := time.Since(start).Seconds()
	servers := cpuOf(g.opts.Behind) - behind
	for i, pid := range g.opts.PIDs {
		used := processCPU(pid) - before[i]
		servers += used
		r.ServerCPU = append(r.ServerCPU, used)
	}
	busy1, stolen1, total1 := machineCPU()
	if total1 > total {
		other := (busy1 - busy) + (stolen1 - stolen) - servers - r.ClientCPU
		r.Foreign = max(0, 100*other/(total1-total))
	}
	r.Rate = elapsed
	return r, nil
}

func cpuOf(pids []int) (us float64) {
	for _, pid := range pids {
		us += processCPU(pid)
	}
	return us
}

func (r *loadResult) perRequest(n uint64) *loadResult {
	r.Requests = n
	r.Rate = float64(n) / r.Rate
	per := 1 / float64(max(n, 1))
	r.ClientCPU *= per
	for i := range r.ServerCPU {
		r.ServerCPU[i] *= per
	}
	return r
}
