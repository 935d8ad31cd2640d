package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tollgate/envoy/bootstrap"
)

// bootstrapFlags are the flags of "envoy bootstrap".
type bootstrapFlags struct {
	server                      serverFlags
	node, group                 string
	xds, authz, log             []string
	xdsName, authzName, logName string
	tls                         bootstrap.TLS
	admin, health, memory, dns  string
	connections                 uint64
	dnsTimeout                  time.Duration
	dnsTries                    uint32
	output                      outputFlags
}

func newEnvoyBootstrapCommand() *cobra.Command {
	var flags bootstrapFlags
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print or write the configuration that an Envoy starts with",
		Long: "Print the configuration that an Envoy starts with; listeners, routes and API clusters then come from xds.\n" +
			"Without --xds and --authz it is for an Envoy beside the processes of this configuration, over their sockets.\n" +
			"To reach them on other machines Envoy needs a certificate: --tls-cert, --tls-key and --tls-ca, which it reads\n" +
			"again when a name in their folder is replaced.",
		Example: "  tollgate envoy bootstrap > envoy.json\n" +
			"  tollgate envoy bootstrap --node gw-1 --group edge --xds xds.internal:18000 --authz /run/tollgate/authz.sock \\\n" +
			"    --tls-cert /etc/envoy/tls/tls.crt --tls-key /etc/envoy/tls/tls.key --tls-ca /etc/envoy/tls/ca.crt \\\n" +
			"    --trust-domain example.org --memory 4GiB --write-dir /etc/envoy",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := flags.options(cmd.Flags())
			if err != nil {
				return err
			}
			return flags.write(cmd, opts)
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

func (f *bootstrapFlags) register(flags *pflag.FlagSet) {
	f.server.register(flags)
	flags.StringVar(&f.node, "node", "envoy-1", "name of this Envoy, unique in its gateway group; over mTLS that of its certificate")
	flags.StringVar(&f.group, "group", "", "its gateway group (default: gateway.group)")
	const where = "a socket's absolute path, 127.0.0.1:PORT, or HOST:PORT over mTLS"
	flags.StringSliceVar(&f.xds, "xds", nil, "xds: "+where+"; several replicas are tried in turn (default: xds.address)")
	flags.StringVar(&f.xdsName, "xds-name", "", "DNS name in the certificates of --xds (default: its host)")
	flags.StringSliceVar(&f.authz, "authz", nil, "authz: a socket's absolute path, or a fleet's HOST:PORT over mTLS (default: authz.socket)")
	flags.StringVar(&f.authzName, "authz-name", "", "DNS name in the certificates of --authz (default: its host)")
	flags.StringSliceVar(&f.log, "access-log", nil, "who takes usage records, rpc.address of key managers: "+where+" (default: nobody, and with gateway.usage rpc.address)")
	flags.StringVar(&f.logName, "access-log-name", "", "DNS name in the certificates of --access-log (default: its host)")
	flags.StringVar(&f.tls.CertFile, "tls-cert", "", "this Envoy's certificate, spiffe://TRUSTDOMAIN/gateway/GROUP/NODE; PEM, an absolute path as Envoy sees it")
	flags.StringVar(&f.tls.KeyFile, "tls-key", "", "its private key, in the same folder")
	flags.StringVar(&f.tls.CAFile, "tls-ca", "", "the authorities of the servers' certificates")
	flags.StringVar(&f.tls.TrustDomain, "trust-domain", "", "check the servers' roles, spiffe://TRUSTDOMAIN/ROLE/..., instead of their DNS names")
	flags.StringVar(&f.tls.SDSDir, "sds-dir", "", "where the SDS files are when Envoy runs (default: WRITE-DIR/sds)")
	flags.StringVar(&f.admin, "admin", "", "where Envoy's own admin interface listens: 127.0.0.1:PORT or a socket's absolute path (default: a free port)")
	flags.StringVar(&f.health, "health", "", "where load balancers ask GET /healthz: IP:PORT, clear text (default: nowhere)")
	flags.StringVar(&f.memory, "memory", "auto", "memory of Envoy's container, such as 4GiB; three quarters are its heap limit. auto: what this command's own container or machine has")
	flags.Uint64Var(&f.connections, "connections", 50000, "client connections at the same time; those beyond are refused")
	flags.StringVar(&f.dns, "dns", "", "name server, IP:PORT (default: the system's)")
	flags.DurationVar(&f.dnsTimeout, "dns-timeout", time.Second, "of one question to it, in whole seconds")
	flags.Uint32Var(&f.dnsTries, "dns-tries", 2, "how often it is asked for one name")
	f.output.register(flags, "bootstrap")
}

// options reads the flags, and what they leave open from the configuration.
func (f *bootstrapFlags) options(set *pflag.FlagSet) (bootstrap.Options, error) {
	cfg, err := f.server.config(set)
	if err != nil {
		return bootstrap.Options{}, err
	}
	if f.group == "" {
		f.group = cfg.Gateway.Group
	}
	xds, authz, usage, err := neighbours(&cfg)
	if err != nil {
		return bootstrap.Options{}, err
	}
	if f.xds == nil && f.xdsName == "" {
		f.xds = []string{xds}
	}
	if f.authz == nil && f.authzName == "" {
		f.authz = []string{authz}
	}
	if f.log == nil && f.logName == "" && usage != "" {
		f.log = []string{usage}
	}
	memory, err := parseMemory(f.memory)
	if err != nil {
		return bootstrap.Options{}, err
	}
	if f.tls != (bootstrap.TLS{}) && f.tls.SDSDir == "" && f.output.dir != "" {
		dir, err := filepath.Abs(f.output.dir)
		if err != nil {
			return bootstrap.Options{}, err
		}
		f.tls.SDSDir = filepath.Join(dir, sdsFolder)
	}
	if f.connections == 0 || f.dnsTries == 0 {
		return bootstrap.Options{}, errors.New("--connections and --dns-tries must be at least 1")
	}
	opts := bootstrap.Options{
		NodeID: f.node, Group: f.group, TLS: f.tls, Admin: f.admin, Health: f.health, HeapLimit: heapLimit(memory),
		ConnectionLimit: f.connections, DNS: f.dns, DNSTimeout: f.dnsTimeout, DNSTries: f.dnsTries,
	}
	if f.dnsTimeout == 0 {
		opts.DNSTimeout = -1 // 0 would be the default
	}
	opts.XDS, opts.XDSServers = f.place(f.xds, f.xdsName)
	opts.Authz, opts.AuthzServers = f.place(f.authz, f.authzName)
	opts.AccessLog, opts.AccessLogServers = f.place(f.log, f.logName)
	if isLocal(opts.XDS) && isLocal(opts.Authz) && f.tls == (bootstrap.TLS{}) {
		// Beside a control plane that restarts with its machine: do not make people
		// wait.
		opts.BackoffBase, opts.BackoffMax = 50*time.Millisecond, time.Second
	}
	return opts, nil
}

// place tells an address of this machine from servers over mTLS: with a
// certificate every HOST:PORT is one.
func (f *bootstrapFlags) place(addresses []string, name string) (local string, servers bootstrap.Servers) {
	if len(addresses) == 1 && name == "" && (strings.HasPrefix(addresses[0], "/") || isLocal(addresses[0]) && f.tls.CertFile == "") {
		return addresses[0], bootstrap.Servers{}
	}
	return "", bootstrap.Servers{Addresses: addresses, Name: name}
}

// isLocal reports whether an address is a socket's or a loopback one.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "/") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip, perr := netip.ParseAddr(host)
	return err == nil && perr == nil && ip.IsLoopback()
}

var memorySize = regexp.MustCompile(`^([0-9]{1,9})(MiB|GiB|Mi|Gi|M|G)$`)

// parseMemory reads a size as Kubernetes and people write it.
func parseMemory(text string) (uint64, error) {
	if text == "auto" {
		if n := availableMemory(); n > 0 && n < math.MaxInt64/2 {
			return uint64(n), nil
		}
		return 0, errors.New("--memory auto: neither the container's nor the machine's memory is known here; say how much, such as 4GiB")
	}
	m := memorySize.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("--memory %q is not a size such as 512MiB or 4GiB, nor auto", text)
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return 0, err
	}
	unit := map[string]uint64{"Mi": 1 << 20, "MiB": 1 << 20, "Gi": 1 << 30, "GiB": 1 << 30, "M": 1e6, "G": 1e9}[m[2]]
	if n *= unit; n < 128<<20 {
		return 0, fmt.Errorf("--memory %s is too little: Envoy needs 128MiB at least", text)
	}
	return n, nil
}

// optionFlags are the flags behind the options of a bootstrap.
var optionFlags = map[string]string{
	"NodeID": "--node", "Group": "--group",
	"XDS": "--xds", "XDSServers": "--xds", "XDSServers.Addresses": "--xds", "XDSServers.Name": "--xds-name",
	"Authz": "--authz", "AuthzServers": "--authz", "AuthzServers.Addresses": "--authz", "AuthzServers.Name": "--authz-name",
	"AccessLog": "--access-log", "AccessLogServers": "--access-log", "AccessLogServers.Addresses": "--access-log",
	"AccessLogServers.Name": "--access-log-name",
	"TLS":                   "--tls-cert, --tls-key, --tls-ca", "TLS.CertFile": "--tls-cert", "TLS.KeyFile": "--tls-key", "TLS.CAFile": "--tls-ca",
	"TLS.SDSDir": "--sds-dir or --write-dir", "TLS.TrustDomain": "--trust-domain",
	"Admin": "--admin", "Health": "--health", "DNS": "--dns", "DNSTimeout": "--dns-timeout", "DNSTries": "--dns-tries",
}

// flagErrors says what is wrong in terms of flags, one thing a line.
func flagErrors(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var lines []string
	for _, e := range joined.Unwrap() {
		line := e.Error()
		if option := new(bootstrap.OptionError); errors.As(e, &option) {
			var names []string
			for part := range strings.SplitSeq(option.Option, ", ") {
				if flag, ok := optionFlags[part]; ok && !strings.Contains(strings.Join(names, ","), flag) {
					names = append(names, flag)
				}
			}
			line = strings.Join(names, ", ") + " " + option.Why
		}
		if !slices.Contains(lines, line) { // each server complains of the same certificate
			lines = append(lines, line)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// sdsFolder is where --write-dir puts the SDS files.
const sdsFolder = "sds"

// write renders the bootstrap and its SDS files, and puts them where the flags
// say.
func (f *bootstrapFlags) write(cmd *cobra.Command, opts bootstrap.Options) error {
	text, err := bootstrap.Render(opts)
	if err != nil {
		return flagErrors(err)
	}
	secrets, err := opts.TLS.SDSFiles()
	if err != nil {
		return flagErrors(err)
	}
	comments := bootstrap.Comments()
	comments[""] = bootstrapHead(&opts)
	files := []bootstrap.File{{Path: "bootstrap", Content: text}}
	for _, s := range secrets {
		files = append(files, bootstrap.File{Path: filepath.Join(sdsFolder, filepath.Base(s.Path)), Content: s.Content})
	}
	return f.output.write(cmd.OutOrStdout(), files, comments)
}

// bootstrapHead is the comment at the top.
func bootstrapHead(o *bootstrap.Options) string {
	return fmt.Sprintf(`Bootstrap of the Envoy %s of gateway group %s, made by "tollgate envoy bootstrap".

Start:
  envoy -c bootstrap.yaml --concurrency 4 --use-dynamic-base-id --drain-time-s 30
One worker for each CPU that is Envoy's alone; an authz on the same machine needs about as many again.
--drain-time-s is how long "tollgate envoy drain" takes to close the ports: Envoy's own default is ten minutes.

Memory: from 85 %% of %d MiB on Envoy sheds load, at 95 %% it takes no further connection. That is enough for about
%d APIs with one worker; each further worker takes 3 KiB for each API.
`, o.NodeID, o.Group, o.HeapLimit>>20, bootstrap.APIs(o.HeapLimit))
}
