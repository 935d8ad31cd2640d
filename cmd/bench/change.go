package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// changesMeasured is how many changes of one API are timed for each size.
const changesMeasured = 40

// benchChange measures, for 1k, 10k and 100k APIs, how long one changed API
// takes from the catalog into use at a real Envoy: a client asks it all the
// while, and sees the other back end answer.
func benchChange(ctx context.Context, out io.Writer, dir string) error {
	binary, err := envoyBinary()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nOne API changed among many: from the catalog until a real Envoy uses it")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "APIs\tstart to ready s\troutes: p50 ms\tp99 ms\tback end: p50 ms\tp99 ms\tEnvoy MB\t\n")
	for i, n := range []int{1_000, 10_000, 100_000} {
		g, err := newGateway(ctx, binary, filepath.Join(dir, "change"+strconv.Itoa(i)), n)
		if err != nil {
			return fmt.Errorf("%d APIs: %w", n, err)
		}
		routes, err := g.time(ctx, func(k int) (*keymanager.API, string) {
			path := "/v" + strconv.Itoa(k)
			return g.api(g.ones, path), g.ones + path
		})
		var moves []float64
		if err == nil {
			moves, err = g.time(ctx, func(k int) (*keymanager.API, string) {
				backend := []string{g.twos, g.ones}[k%2]
				return g.api(backend, "/v"), backend + "/v"
			})
		}
		resident := residentMB(g.envoy.Pid())
		if err := errors.Join(err, g.stop()); err != nil {
			return fmt.Errorf("%d APIs: %w", n, err)
		}
		fmt.Fprintf(w, "%d\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t\n", n, g.start.Seconds(),
			at(routes, 0.5), at(routes, 0.99), at(moves, 0.5), at(moves, 0.99), resident)
		_ = w.Flush()
	}
	return nil
}

func at(xs []float64, p float64) float64 {
	slices.Sort(xs)
	return xs[min(len(xs)-1, int(p*float64(len(xs))))]
}

// gateway is one xds with one Envoy and an authz that allows everything.
type gateway struct {
	catalog    *keymanagertest.KeyManager
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

func newGateway(ctx context.Context, binary, prefix string, n int) (*gateway, error) {
	g := &gateway{}
	ctx, g.cancel = context.WithCancel(ctx)
	g.tasks, ctx = errgroup.WithContext(ctx)
	err := g.open(ctx, binary, prefix, n)
	if err != nil {
		err = errors.Join(err, g.stop())
	}
	return g, err
}

func (g *gateway) open(ctx context.Context, binary, prefix string, n int) error {
	for _, address := range []*string{&g.ones, &g.twos} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*address = l.Addr().String()
		g.serve(ctx, l, &http.Server{Handler: echo(*address), ReadHeaderTimeout: 10 * time.Second})
	}
	apis := make([]*keymanager.API, 0, n)
	for i := range n - 1 {
		id := fmt.Sprintf("other-%d", i)
		a := g.api(g.ones, "/v")
		a.ID, a.Name, a.Context = keymanager.APIID(id), id, "/"+id
		apis = append(apis, a)
	}
	g.catalog = keymanagertest.New(keymanagertest.Options{Heartbeat: time.Second}, append(apis, g.api(g.ones, "/v"))...)
	server, err := xds.New(xds.Options{ID: "bench", Catalog: g.catalog, Now: time.Now, Groups: []xds.Group{{
		Name: "bench", Hosts: []string{"127.0.0.1"}, Listeners: []xds.Listener{{Address: "127.0.0.1"}}}}})
	if err != nil {
		return err
	}
	g.tasks.Go(func() error { return server.Run(ctx) })
	control := grpc.NewServer(xds.ServerOptions(nil)...)
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
	boot, err := bootstrap.Render(bootstrap.Options{NodeID: "bench", Group: "bench", XDS: prefix + ".xds", Authz: prefix + ".authz",
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

// time returns how long each of a number of changes took, in milliseconds.
func (g *gateway) time(ctx context.Context, next func(k int) (api *keymanager.API, answer string)) ([]float64, error) {
	var out []float64
	for k := range changesMeasured {
		api, answer := next(k)
		begun := time.Now()
		g.catalog.SetAPI(api)
		seen, err := g.until(ctx, answer+"/x")
		if err != nil {
			return nil, err
		}
		out = append(out, float64(seen.Sub(begun))/1e6)
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
