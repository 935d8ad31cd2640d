package rig

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tollgate/authz/cache"
	"tollgate/authz/cache/redistest"
	"tollgate/keymanager/peertest"
	"tollgate/keymanager/rpc"
	"tollgate/keymanager/store/storetest"
	"tollgate/keymanager/token"
)

// Fleet is Tollgate as operators run it: every part a process of its own, over
// mTLS, two key managers on one PostgreSQL, a Redis, two xds, and an authz
// beside each of three Envoys. Every TCP connection between two of them leads
// over a wire of its own.
type Fleet struct {
	*Rig
	Postgres    *storetest.Server // over the wires by TCP, through a link to its socket
	Redis       *redistest.Server
	KeyManagers []*Node
	XDS         []*Node
	Authz       []*Node
	Envoys      []*Node
	Gateways    []string // host:port of each Envoy
	Web         []string // host:port of each key manager's token endpoint

	// Wires by who connects and to whom: "authz-1>keymanager-2".
	Wires map[string]*Wire

	usage   bool // Envoys tell the key managers of each call
	remote  bool // Envoys ask authz over mTLS; the key managers speak HTTPS
	ca      *peertest.Authority
	keys    string   // folder of the key files that all share
	private []string // the keys of certificates
	rpc     []string // host:port of each key manager, for gateways
}

// The size of a Fleet.
const (
	fleetKeyManagers = 2
	fleetXDS         = 2
	fleetGateways    = 3
)

// Node is one process of a fleet, which can end and start again.
type Node struct {
	Name string // "authz-1"
	Ops  string // host:port of /readyz; of an Envoy its admin interface
	// Program is the tollgate that runs, or that wrote an Envoy's bootstrap;
	// "" = the one of this tree.
	Program string

	fleet *Fleet
	start func() *Process
	*Process
}

// Start starts the node.
func (n *Node) Start() { n.Process = n.start() }

// Config is the path of the configuration of a tollgate process.
func (n *Node) Config() string {
	return filepath.Join(filepath.Dir(n.fleet.State), n.Name+".yaml")
}

// program is the tollgate of the node.
func (n *Node) program() string {
	if n.Program != "" {
		return n.Program
	}
	return Binary(n.fleet.t)
}

// Freeze stops the process where it is, with all that it holds.
func (n *Node) Freeze() { n.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (n *Node) Thaw() { n.Signal(syscall.SIGCONT) }

// End ends the process in good order and waits for it.
func (n *Node) End() {
	n.fleet.t.Helper()
	n.Signal(syscall.SIGTERM)
	if err := n.Wait(); err != nil {
		n.fleet.t.Errorf("%s ends with %v\n%s", n.Name, err, n.Stderr())
	}
}

// Restart ends the node in good order, starts it again and waits until it is
// ready.
func (n *Node) Restart() {
	n.fleet.t.Helper()
	n.End()
	n.Start()
	n.Ready()
}

// Ready waits until the node says that it is ready.
func (n *Node) Ready() {
	n.fleet.t.Helper()
	path := "/readyz"
	if strings.HasPrefix(n.Name, "envoy") {
		path = "/ready"
	}
	Eventually(n.fleet.t, n.Name+" is ready", func() error {
		if n.Ended() {
			n.fleet.t.Fatalf("%s ended: %v\n%s", n.Name, n.err, n.Stderr())
		}
		a, err := Do(http.MethodGet, "http://"+n.Ops+path)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
}

// NewFleet starts a fleet and waits until all of it is ready. settings are what
// every process of a role gets besides ("authz", "AUTHZ_MAX_STALE=5s"). Any of
// the role "gateway" has Envoys send usage records; any of the role "remote" puts
// mTLS between Envoys and authz in place of a socket, and HTTPS in front of the
// key managers.
func NewFleet(t testing.TB, settings map[string][]string) *Fleet {
	t.Helper()
	return NewFleetOf(t, "", settings)
}

// NewFleetOf is NewFleet of another tollgate ("" = the one of this tree).
func NewFleetOf(t testing.TB, program string, settings map[string][]string) *Fleet {
	t.Helper()
	f := &Fleet{Rig: New(t), Wires: map[string]*Wire{}, ca: peertest.CA(t), usage: settings["gateway"] != nil, remote: settings["remote"] != nil}
	f.Postgres = storetest.StartServer(t)
	database := NewLink(t, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(filepath.Dir(f.Postgres.Dir()), ".s.PGSQL.5432"))
	})
	f.Redis = redistest.Start(t, redistest.Options{})
	f.writeKeys()
	f.plan(database.Address(), settings)
	for _, n := range f.Nodes() { // in any order
		n.Program = program
		n.Start()
	}
	for _, n := range f.Nodes() {
		n.Ready()
	}
	return f
}

// Nodes returns every process of ours, and the Envoys.
func (f *Fleet) Nodes() []*Node {
	var all []*Node
	for _, part := range [][]*Node{f.KeyManagers, f.XDS, f.Authz, f.Envoys} {
		all = append(all, part...)
	}
	return all
}

// Wire returns the wire over which one node reaches another.
func (f *Fleet) Wire(from, to string) *Wire {
	f.t.Helper()
	w := f.Wires[from+">"+to]
	if w == nil {
		f.t.Fatalf("no wire from %s to %s", from, to)
	}
	return w
}

func (f *Fleet) writeKeys() {
	f.t.Helper()
	f.keys = filepath.Join(filepath.Dir(f.State), "keys")
	if err := os.Mkdir(f.keys, 0o700); err != nil {
		f.t.Fatal(err)
	}
	for name, random := range map[string]func(io.Reader) ([]byte, error){
		"tag": token.NewTagKeys, "pepper": token.NewPeppers, "redis": cache.NewRedisKeys,
	} {
		content, err := random(rand.Reader)
		if err == nil {
			err = os.WriteFile(f.key(name), content, 0o600)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// wire opens the wire from one node to the address of another.
func (f *Fleet) wire(from, to, address string) string {
	w := NewWire(f.t, address)
	f.Wires[from+">"+to] = w
	return w.Address()
}

// plan lays out addresses and writes the configuration of each process.
func (f *Fleet) plan(database string, settings map[string][]string) {
	f.t.Helper()
	ports := func(n int) []string { return FreePorts(f.t, n) }
	web, ads := ports(fleetKeyManagers), ports(fleetXDS)
	f.rpc = ports(fleetKeyManagers)
	f.Gateways, f.Web, f.KeyManager = ports(fleetGateways), web, web[0]

	for i := range fleetKeyManagers {
		name := fmt.Sprint("keymanager-", i+1)
		f.KeyManagers = append(f.KeyManagers, f.node(name, "keymanager", fmt.Sprintf(`
store: {dsn: "postgres://tollgate@%s/postgres?search_path=public&sslmode=disable"}
keys: {tag_file: %s, pepper_file: %s}
keymanager: {address: "%s", issuer: "%s://%s"%s}
rpc: {address: "%s"}
`, f.wire(name, "postgres", database), f.key("tag"), f.key("pepper"), web[i], f.scheme(), web[0], f.https(), f.rpc[i]), settings["keymanager"]))
	}
	groups := f.groups(web)
	for i := range fleetXDS {
		name := fmt.Sprint("xds-", i+1)
		f.XDS = append(f.XDS, f.node(name, "xds", fmt.Sprintf(`
rpc: {servers: [%s]}
xds:
  address: "%s"
  groups:
%s`, f.servers(name, f.rpc), ads[i], groups), settings["xds"]))
	}
	for i := range fleetGateways {
		name, address := fmt.Sprint("authz-", i+1), ""
		if f.remote {
			address = ports(1)[0]
		}
		f.Authz = append(f.Authz, f.node(name, "authz", fmt.Sprintf(`
rpc: {servers: [%s]}
keys: {tag_file: %s}
gateway: {group: %s}
authz: {socket: %s, address: %q}
redis: {mode: single, addresses: ["%s"], key_file: %s}
`, f.servers(name, f.rpc), f.key("tag"), group(i), f.Socket(i), address, f.wire(name, "redis", f.Redis.Addr), f.key("redis")), settings["authz"]))
		f.Envoys = append(f.Envoys, f.envoy(i, ads, address))
	}
}

func group(i int) string { return fmt.Sprint("edge-", i+1) }

func (f *Fleet) key(name string) string { return filepath.Join(f.keys, name+".key") }

// Socket is where the i-th authz listens.
func (f *Fleet) Socket(i int) string {
	return filepath.Join(filepath.Dir(f.State), fmt.Sprintf("authz-%d.sock", i+1))
}

// servers returns the wires of a node to the key managers.
func (f *Fleet) servers(from string, rpc []string) string {
	var out []string
	for i, address := range rpc {
		out = append(out, fmt.Sprintf("%q", f.wire(from, fmt.Sprint("keymanager-", i+1), address)))
	}
	return strings.Join(out, ", ")
}

// groups is one gateway group for each Envoy: they listen on one machine.
func (f *Fleet) groups(web []string) string {
	var b strings.Builder
	for i, address := range f.Gateways {
		shown := ""
		if f.remote {
			shown = fmt.Sprintf(", ca: internal, client_certificate: %s-token", group(i))
		}
		fmt.Fprintf(&b, "  - {name: %s, listeners: [{address: %q}], hosts: [127.0.0.1, localhost], keymanager: {addresses: [%s]%s}, usage: %t}\n",
			group(i), address, f.upstreams(fmt.Sprint("envoy-", i+1), web), shown, f.usage)
	}
	if f.remote {
		fmt.Fprintf(&b, "  certificates:\n    internal: {ca_file: %s}\n", f.CAFile())
		for i := range f.Gateways {
			cert, key, _ := f.ca.Client("gateway/" + group(i) + "/token").Files(f.t)
			f.private = append(f.private, key)
			fmt.Fprintf(&b, "    %s-token: {cert_file: %s, key_file: %s}\n", group(i), cert, key)
		}
	}
	return b.String()
}

// upstreams is where an Envoy reaches the token endpoint: "envoy-1>web-2" is the
// wire to that of keymanager-2.
func (f *Fleet) upstreams(envoy string, web []string) string {
	var out []string
	for i, address := range web {
		out = append(out, fmt.Sprintf("%q", f.scheme()+"://"+f.wire(envoy, fmt.Sprint("web-", i+1), address)))
	}
	return strings.Join(out, ", ")
}

// scheme is what the key managers speak.
func (f *Fleet) scheme() string {
	if f.remote {
		return "https"
	}
	return "http"
}

// https are the settings of a key manager that speaks HTTPS.
func (f *Fleet) https() string {
	if !f.remote {
		return ""
	}
	cert, key, _ := f.ca.Issue(peertest.Leaf{URIs: []string{}, Hosts: []string{"127.0.0.1"}}).Files(f.t)
	f.private = append(f.private, key)
	return fmt.Sprintf(", cert_file: %s, key_file: %s", cert, key)
}

// CAFile is the authority of all certificates.
func (f *Fleet) CAFile() string { return f.File("ca.pem", string(f.ca.PEM)) }

// node writes the configuration of one tollgate process.
func (f *Fleet) node(name, role, config string, settings []string) *Node {
	f.t.Helper()
	n := &Node{Name: name, Ops: FreePorts(f.t, 1)[0], fleet: f}
	dir := filepath.Join(filepath.Dir(f.State), name)
	peer := role + "/" + name
	if role == "authz" {
		peer = "authz/" + group(int(name[len(name)-1]-'1')) + "/" + name
	}
	cert, key, ca := f.ca.Server(peer).Files(f.t)
	f.private = append(f.private, key)
	config = fmt.Sprintf("state: {dir: %s}\nlog: {level: debug}\nops: {address: %q}\ntls: {cert_file: %s, key_file: %s, ca_file: %s, trust_domain: %s}\n",
		dir, n.Ops, cert, key, ca, peertest.TrustDomain) + config
	file := f.File(name+".yaml", config)
	settings = slices.Clone(settings)
	for i, setting := range settings {
		settings[i] = "TOLLGATE_" + setting
	}
	n.start = func() *Process {
		return f.runWith(settings, name, n.program(), "serve", role, "--config", file)
	}
	return n
}

// AdminFile is the credential of the administrator, in the state folder of the
// key manager that has made it: whichever came first.
func (f *Fleet) AdminFile(t testing.TB) string {
	t.Helper()
	for i := range f.KeyManagers {
		path := filepath.Join(filepath.Dir(f.State), fmt.Sprint("keymanager-", i+1), "admin.json")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no key manager has made an administrator")
	return ""
}

// Admin signs in at the first key manager.
func (f *Fleet) Admin(t testing.TB) *Admin {
	t.Helper()
	return f.signIn(t, f.AdminFile(t))
}

// envoy is the i-th Envoy, with the bootstrap that tollgate prints for it. remote
// is the address of its authz; "" = its socket.
func (f *Fleet) envoy(i int, ads []string, remote string) *Node {
	f.t.Helper()
	name := fmt.Sprint("envoy-", i+1)
	n := &Node{Name: name, Ops: FreePorts(f.t, 1)[0], fleet: f}
	cert, key, ca := f.ca.Client("gateway/" + group(i) + "/" + name).Files(f.t)
	f.private = append(f.private, key)
	var xds []string
	for k, address := range ads {
		xds = append(xds, f.wire(name, fmt.Sprint("xds-", k+1), address))
	}
	authz := f.Socket(i)
	if remote != "" {
		authz = f.wire(name, fmt.Sprint("authz-", i+1), remote)
	}
	dir := filepath.Join(filepath.Dir(f.State), name)
	args := []string{
		"envoy", "bootstrap", "--node", name, "--group", group(i), "--xds", strings.Join(xds, ","),
		"--authz", authz, "--admin", n.Ops, "--memory", "2GiB", "--write-dir", dir, "--force",
		"--tls-cert", cert, "--tls-key", key, "--tls-ca", ca, "--trust-domain", peertest.TrustDomain,
	}
	if f.usage {
		for k, address := range f.rpc {
			args = append(args, "--access-log", f.wire(name, fmt.Sprint("keymanager-", k+1), address))
		}
	}
	n.start = func() *Process {
		f.tollgate(n.program(), args...)
		return f.run(name, f.Rig.Envoy, "-c", filepath.Join(dir, "bootstrap.yaml"),
			"--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart", "--drain-time-s", "2", "-l", "warning")
	}
	return n
}

// KeyFile returns the content of a key file that the processes share: "tag",
// "pepper", "redis".
func (f *Fleet) KeyFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(f.key(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Peer connects to the key managers as a part with a certificate of its own,
// "authz/GROUP/NAME".
func (f *Fleet) Peer(peer string) (*rpc.Client, error) {
	return rpc.NewClient(rpc.ClientOptions{Targets: f.rpc, TLS: f.ca.Client(peer).ClientTLS(), TrustDomain: peertest.TrustDomain})
}
