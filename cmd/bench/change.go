package main

import (
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

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"tollgate/envoy"
	"tollgate/envoy/bootstrap"
	"tollgate/envoy/process"
	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/xds"
)

// benchNode is the name of the real Envoy.
const benchNode = "bench"

// changesMeasured is how many changes of one API are timed for each size; fewer
// of one great table, which Envoy builds anew for each.
const changesMeasured, changesOfOneTable = 40, 8

// changeRow is one configuration that a change is measured in.
type changeRow struct {
	apis      int
	oneTable  bool // all APIs are versions of one context: one table of routes
	simulated int  // gateways that only acknowledge, besides the real Envoy
	// reference is what was measured with a control plane that does nothing but
	// answer, and scopes without back ends: change and acknowledgement, then all
	// together.
	reference string
}

var changeRows = []changeRow{
	{apis: 1_000},
	{apis: 10_000, reference: "461 B, ACK 0.34 ms, in use 3.6 ms"},
	{apis: 10_000, simulated: 19},
	{apis: 10_000, oneTable: true, reference: "3.1 MB, ACK 119 ms"},
	{apis: 100_000, reference: "464 B, ACK 2.6 ms, in use 6 ms, start 16.4 s, 33 KB"},
}

// benchChange measures, for 1k, 10k and 100k APIs, how long one changed API
// takes from the catalog into use at a real Envoy: a client asks it all the
// while, and sees the other back end answer. It also measures what is sent for
// it, when Envoy has acknowledged that, and what Envoy needs for each API. Only
// the first rows are measured.
func benchChange(ctx context.Context, out io.Writer, dir string, rows int) error {
	binary, err := envoyBinary()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nOne API changed among many: from the catalog until a real Envoy uses it")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "APIs\tgateways\tstart to ready s\troutes: p50 ms\tp99 ms\tACK p50 ms\tbytes each\tback end: p50 ms\tp99 ms\tbytes each\tEnvoy MB\tKB per API\tbare control plane\t\n")
	idle := 0.0 // an Envoy with nothing in it: a straight line through the first two
	var first float64
	var failed error // of a row: the others are measured all the same
	for i, row := range changeRows[:min(rows, len(changeRows))] {
		g, err := newGateway(ctx, binary, filepath.Join(dir, "change"+strconv.Itoa(i)), row)
		if err != nil {
			return fmt.Errorf("%d APIs: %w", row.apis, err)
		}
		changes := changesMeasured
		if row.oneTable {
			changes = changesOfOneTable
		}
		routes, err := g.time(ctx, changes, func(k int) (*keymanager.API, string) {
			path := "/v" + strconv.Itoa(k)
			return g.api(g.ones, path), g.ones + path
		})
		var moves timed
		if err == nil {
			moves, err = g.time(ctx, changes, func(k int) (*keymanager.API, string) {
				backend := []string{g.twos, g.ones}[k%2]
				return g.api(backend, "/v"), backend + "/v"
			})
		}
		resident := residentMB(g.envoy.Pid())
		kind := strconv.Itoa(1 + row.simulated)
		if row.oneTable {
			kind += ", one table"
		}
		if err := errors.Join(err, g.stop()); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%d APIs, gateways: %s: %w", row.apis, kind, err))
			continue
		}
		switch i {
		case 0:
			first = resident
		case 1:
			idle = first - (resident-first)/float64(row.apis-changeRows[0].apis)*float64(changeRows[0].apis)
		}
		perAPI := ""
		if i > 0 && idle > 0 {
			perAPI = fmt.Sprintf("%.1f", (resident-idle)*1000/float64(row.apis))
		}
		fmt.Fprintf(w, "%d\t%s\t%.1f\t%.2f\t%.2f\t%.2f\t%d\t%.2f\t%.2f\t%d\t%.0f\t%s\t%s\t\n", row.apis, kind, g.start.Seconds(),
			at(routes.inUse, 0.5), at(routes.inUse, 0.99), at(routes.acks, 0.5), routes.bytes,
			at(moves.inUse, 0.5), at(moves.inUse, 0.99), moves.bytes, resident, perAPI, row.reference)
		fmt.Fprintf(os.Stderr, "%d APIs measured\n", row.apis)
	}
	return failed
}

func at(xs []float64, p float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return xs[min(len(xs)-1, int(p*float64(len(xs))))]
}

// gateway is one xds with one Envoy and an authz that allows everything.
type gateway struct {
	catalog    *keymanagertest.KeyManager
	tap        *tap
	envoy      *process.Process
	ones, twos string // addresses of two back ends
	url        string
	start      time.Duration
	cancel     context.CancelFunc
	tasks      *errgroup.Group
}

// echo answers with its own address and the path that it was asked for.
func echo(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, address+r.URL.Path) })
}

// allow is an ext_authz that lets everything through to production.
type allow struct {
	authv3.UnimplementedAuthorizationServer
}

func (allow) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: envoy.HeaderEnv, Value: envoy.EnvProduction},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}}}, nil
}

func newGateway(ctx context.Context, binary, prefix string, row changeRow) (*gateway, error) {
	g := &gateway{tap: &tap{nodes: map[string]*tapped{}}}
	ctx, g.cancel = context.WithCancel(ctx)
	g.tasks, ctx = errgroup.WithContext(ctx)
	err := g.open(ctx, binary, prefix, row)
	if err == nil {
		err = g.follow(ctx, prefix+".xds", row.simulated)
	}
	if err == nil { // what the first push was is no change's
		_, _, err = g.tap.cut(ctx, benchNode)
	}
	if err != nil {
		err = errors.Join(err, g.stop())
	}
	return g, err
}

func (g *gateway) open(ctx context.Context, binary, prefix string, row changeRow) error {
	for _, address := range []*string{&g.ones, &g.twos} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*address = l.Addr().String()
		g.serve(ctx, l, &http.Server{Handler: echo(*address), ReadHeaderTimeout: 10 * time.Second})
	}
	apis := make([]*keymanager.API, 0, row.apis)
	for i := range row.apis - 1 {
		id := fmt.Sprintf("other-%d", i)
		a := g.api(g.ones, "/v")
		if a.ID, a.Name = keymanager.APIID(id), id; row.oneTable {
			a.Version = "2." + strconv.Itoa(i)
		} else {
			a.Context = "/" + id
		}
		apis = append(apis, a)
	}
	g.catalog = keymanagertest.New(keymanagertest.Options{Heartbeat: time.Second}, append(apis, g.api(g.ones, "/v"))...)
	server, err := xds.New(xds.Options{ID: "bench", Catalog: g.catalog, Now: time.Now, Groups: []xds.Group{{
		Name: "bench", Hosts: []string{"127.0.0.1"}, Listeners: []xds.Listener{{Address: "127.0.0.1"}}}}})
	if err != nil {
		return err
	}
	g.tasks.Go(func() error { return server.Run(ctx) })
	control := grpc.NewServer(append(xds.ServerOptions(nil), grpc.StatsHandler(g.tap))...)
	server.Register(control)
	decide := grpc.NewServer()
	authv3.RegisterAuthorizationServer(decide, allow{})
	for socket, s := range map[string]*grpc.Server{prefix + ".xds": control, prefix + ".authz": decide} {
		l, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, s.Stop)
		g.tasks.Go(func() error { return s.Serve(l) })
	}
	for server.Ready() != nil { // an Envoy that comes too early is sent away, and waits
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return g.startEnvoy(ctx, binary, prefix)
}

func (g *gateway) startEnvoy(ctx context.Context, binary, prefix string) error {
	boot, err := bootstrap.Render(bootstrap.Options{NodeID: benchNode, Group: "bench", XDS: prefix + ".xds", Authz: prefix + ".authz",
		HeapLimit: 8 << 30, BackoffBase: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	begun := time.Now()
	if g.envoy, err = process.Start(process.Options{Binary: binary, Bootstrap: boot}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := g.envoy.Ready(ctx, "tcp-0"); err != nil {
		return err
	}
	admin, err := g.envoy.Admin(ctx)
	if err != nil {
		return err
	}
	listeners, err := admin.Listeners(ctx)
	if err != nil {
		return err
	}
	g.start = time.Since(begun)
	g.url = "http://" + listeners["tcp-0"] + "/changes/1/x"
	_, err = g.until(ctx, g.ones+"/v/x")
	return err
}

func (g *gateway) serve(ctx context.Context, l net.Listener, s *http.Server) {
	context.AfterFunc(ctx, func() { _ = s.Close() })
	g.tasks.Go(func() error { return s.Serve(l) })
}

// api is the API that changes, with its back end at address and base path.
func (g *gateway) api(address, base string) *keymanager.API {
	return &keymanager.API{ID: "changes", Organization: "bench", Name: "changes", Context: "/changes", Version: "1", Protocol: keymanager.HTTP1,
		Timeout: keymanager.DefaultTimeout, State: keymanager.StatePublished, Production: []string{"http://" + address + base},
		Resources: []keymanager.Resource{{Method: keymanager.AnyMethod, Path: "/*", AuthType: keymanager.AuthNone}}}
}

// timed are the measurements of a number of changes: milliseconds until one is
// in use, and until Envoy has acknowledged it; the most that any gateway was
// sent for one, in bytes.
type timed struct {
	inUse, acks []float64
	bytes       int
}

// time measures a number of changes.
func (g *gateway) time(ctx context.Context, changes int, next func(k int) (api *keymanager.API, answer string)) (timed, error) {
	var out timed
	for k := range changes {
		api, answer := next(k)
		begun := time.Now()
		g.catalog.SetAPI(api)
		seen, err := g.until(ctx, answer+"/x")
		if err != nil {
			return out, err
		}
		out.inUse = append(out.inUse, float64(seen.Sub(begun))/1e6)
		bytes, acks, err := g.tap.cut(ctx, benchNode)
		if err != nil {
			return out, err
		}
		out.acks = append(out.acks, acks...)
		for _, n := range bytes {
			out.bytes = max(out.bytes, n)
		}
	}
	return out, nil
}

// until asks until the answer is the one wanted, and returns when it came.
func (g *gateway) until(ctx context.Context, want string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	last := ""
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url, http.NoBody)
		if err != nil {
			return time.Time{}, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return time.Time{}, fmt.Errorf("waiting for %q: %w; last answer %q", want, err, last)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return time.Time{}, err
		}
		if last = string(body); last == want {
			return time.Now(), nil
		}
	}
}

// stop ends everything that open started, and returns what ended it early.
func (g *gateway) stop() error {
	if g.envoy != nil {
		g.envoy.Stop()
	}
	g.cancel()
	http.DefaultClient.CloseIdleConnections()
	err := g.tasks.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}
