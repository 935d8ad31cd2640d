package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/rpc"
)

const (
	pushedAPIs = 100_000
	pushes     = 5
	reconnects = 50
)

// serveCatalog is the process "bench serve catalog": a key manager in memory that
// has published many APIs.
func serveCatalog(ctx context.Context, l net.Listener) error {
	apis := make([]*keymanager.API, pushedAPIs)
	for i := range apis {
		id := fmt.Sprintf("api%06d", i)
		apis[i] = &keymanager.API{ID: keymanager.APIID(id), Organization: "bench", Name: id, Context: "/" + id, Version: "1",
			Protocol: keymanager.HTTP1, Timeout: keymanager.DefaultTimeout, State: keymanager.StatePublished,
			Production: []string{fmt.Sprintf("http://10.%d.%d.%d:8080/v1", i>>16, i>>8&255, i&255)},
			Resources:  []keymanager.Resource{{Method: keymanager.AnyMethod, Path: "/*", AuthType: keymanager.AuthNone}}}
	}
	k := keymanagertest.New(keymanagertest.Options{Heartbeat: time.Second}, apis...)
	service, err := rpc.NewServer(rpc.ServerOptions{Validator: k, Catalog: k, Revocations: k, Gateways: k, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s := grpc.NewServer(rpc.GRPCOptions()...)
	service.Register(s)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}

// benchPush measures "tollgate serve xds" with the settings it is shipped with:
// the time that a new gateway takes to get everything, and memory.
func benchPush(ctx context.Context, out io.Writer, dir string) error {
	binary, err := tollgateBinary()
	if err != nil {
		return err
	}
	catalog, err := startSelfOn(ctx, clientCore, "catalog", filepath.Join(dir, "catalog.sock"), dir)
	if err != nil {
		return err
	}
	defer catalog.stop()
	s, ops := &server{socket: filepath.Join(dir, "xds.sock")}, freeAddress()
	config := fmt.Sprintf(`state: {dir: %q}
rpc: {servers: [%q]}
xds:
  address: %q
  groups: [{name: bench, hosts: [localhost], listeners: [{address: "127.0.0.1:8080"}], keymanager: {addresses: ["http://127.0.0.1:9443"]}}]
ops: {address: %q}
`, filepath.Join(dir, "xds-state"), catalog.socket, s.socket, ops)
	file := filepath.Join(dir, "xds.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	// All cores: the promise is about xds, whose garbage collector runs beside it.
	s.cmd = exec.Command(binary, "serve", "xds", "--config", file, "--log-level", "error")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.stop()
	if err := untilReady(ctx, ops); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe first push of %d APIs by \"tollgate serve xds\": ready %.1f s after its start\n", pushedAPIs, time.Since(begun).Seconds())
	resident := func(what string) {
		fmt.Fprintf(out, "  %-36s %.0f MB, at the most %.0f MB\n", what+":", residentMB(s.pid()), statusMB(s.pid(), "VmHWM:"))
		// The most from here on (proc(5), clear_refs).
		_ = os.WriteFile("/proc/"+strconv.Itoa(s.pid())+"/clear_refs", []byte("5"), 0)
	}
	resident("resident when everything is built")
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	resident("10 s later")
	var times []float64
	for i := range pushes {
		took, bytes, err := push(ctx, s.addr(), "push-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		times = append(times, took.Seconds())
		fmt.Fprintf(out, "  push to gateway %d: %.2f s, %.1f MB\n", i+1, took.Seconds(), float64(bytes)/1e6)
	}
	fmt.Fprintf(out, "  all there and acknowledged: p50 %.2f s, the slowest %.2f s\n", at(times, 0.5), slices.Max(times))
	resident("resident after the pushes")
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	resident("10 s later")
	took, sent, err := reconnect(ctx, s.addr(), reconnects)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %d gateways come back at once and name what they have, %.1f MB each: all answered after %.1f s\n",
		reconnects, float64(sent)/1e6, took.Seconds())
	resident("resident after that")
	if err := pause(ctx, 10*time.Second); err != nil {
		return err
	}
	resident("10 s later")
	return nil
}

// untilReady waits until a process says that nothing is missing.
func untilReady(ctx context.Context, ops string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("never ready: %w", err)
		}
	}
}

// push connects a new gateway, which acknowledges everything without looking,
// and returns how long it took until the last acknowledgement, and the bytes.
func push(ctx context.Context, target, id string) (took time.Duration, bytes int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begun := time.Now()
	g, err := connectSimulated(ctx, target)
	if err != nil {
		return 0, 0, err
	}
	defer g.Close()
	for _, url := range resourceTypes {
		if err := g.SendMsg(&discoveryv3.DeltaDiscoveryRequest{Node: simulatedNode(id), TypeUrl: url}); err != nil {
			return 0, 0, err
		}
	}
	has := map[string]int{}
	for has[resourceTypes[0]] < pushedAPIs || has[resourceTypes[1]] < 1 || has[resourceTypes[2]] < pushedAPIs {
		m, err := g.acknowledge()
		if err != nil {
			return 0, 0, err
		}
		has[m.typeURL] += m.resources
		bytes += m.bytes
	}
	return time.Since(begun), bytes, nil
}

// simulated is the stream of a gateway that looks at nothing.
type simulated struct {
	grpc.ClientStream
	*grpc.ClientConn
	versions bool // wanted in what acknowledge returns
}

func connectSimulated(ctx context.Context, target string) (*simulated, error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(24<<20)) // as wide as Envoy's
	if err != nil {
		return nil, err
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, grpc.ForceCodecV2(skim{}))
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &simulated{ClientStream: stream, ClientConn: conn}, nil
}

// acknowledge takes the next response.
func (g *simulated) acknowledge() (skimmed, error) {
	m := skimmed{names: g.versions}
	if err := g.RecvMsg(&m); err != nil {
		return m, err
	}
	return m, g.SendMsg(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.typeURL, ResponseNonce: m.nonce})
}

// reconnect connects n gateways that have everything, at once, and returns how
// long it took until all were told that nothing is new, and the bytes that each
// has sent.
func reconnect(ctx context.Context, target string, n int) (took time.Duration, bytes int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	requests, err := firstRequests(ctx, target)
	if err != nil {
		return 0, 0, err
	}
	for _, r := range requests {
		bytes += len(r)
	}
	begun := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			s, err := connectSimulated(ctx, target)
			if err != nil {
				return err
			}
			defer s.Close()
			node, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{Node: simulatedNode("back-" + strconv.Itoa(i))})
			if err != nil {
				return err
			}
			for _, r := range requests { // two encodings that follow one another are one message
				if err := s.SendMsg(mem.BufferSlice{mem.SliceBuffer(node), mem.SliceBuffer(r)}); err != nil {
					return err
				}
			}
			for range requests {
				m, err := s.acknowledge()
				if err != nil || m.resources > 0 {
					return fmt.Errorf("%d resources of %s are sent again: %w", m.resources, m.typeURL, err)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	return time.Since(begun), bytes, err
}

// firstRequests are what a gateway says that has everything, without its name.
func firstRequests(ctx context.Context, target string) ([][]byte, error) {
	s, err := connectSimulated(ctx, target)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	s.versions = true
	var out [][]byte
	for _, url := range resourceTypes {
		if err := s.SendMsg(&discoveryv3.DeltaDiscoveryRequest{Node: simulatedNode("all"), TypeUrl: url}); err != nil {
			return nil, err
		}
		m, err := s.acknowledge()
		if err != nil {
			return nil, err
		}
		request, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: m.versions})
		if err != nil {
			return nil, err
		}
		out = append(out, request)
	}
	return out, nil
}

// skimmed is what a gateway of push reads of a response: what it costs to decode
// it is Envoy's, not ours.
type skimmed struct {
	typeURL, nonce   string
	resources, bytes int
	names            bool // wanted: versions
	versions         map[string]string
}

// skim is the codec of such a gateway.
type skim struct{}

// Name implements encoding.CodecV2.
func (skim) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (skim) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(mem.BufferSlice); ok {
		return raw, nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("bench: a message is a %T", v)
	}
	raw, err := proto.Marshal(m)
	return mem.BufferSlice{mem.SliceBuffer(raw)}, err
}

// Unmarshal implements encoding.CodecV2. The fields are those of a
// DeltaDiscoveryResponse, each a string or a message.
func (skim) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*skimmed)
	if !ok {
		return fmt.Errorf("bench: a message is wanted as a %T", v)
	}
	m.bytes = data.Len()
	all := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer all.Free()
	for raw := all.ReadOnlyData(); len(raw) > 0; {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 || kind != protowire.BytesType {
			return fmt.Errorf("bench: field %d of type %d", number, kind)
		}
		value, size := protowire.ConsumeBytes(raw[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		switch number {
		case 2:
			if m.resources++; m.names {
				var r discoveryv3.Resource
				if err := proto.Unmarshal(value, &r); err != nil {
					return err
				}
				if m.versions == nil {
					m.versions = map[string]string{}
				}
				m.versions[r.GetName()] = r.GetVersion()
			}
		case 4:
			m.typeURL = string(value)
		case 5:
			m.nonce = string(value)
		}
		raw = raw[n+size:]
	}
	return nil
}
