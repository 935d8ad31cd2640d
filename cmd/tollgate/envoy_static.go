package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"path/filepath"

	"github.com/spf13/cobra"

	"tollgate/envoy/bootstrap"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/xds"
)

// staticFlags are the flags of "envoy static", besides those of the bootstrap.
type staticFlags struct {
	bootstrapFlags
	apis, server, credentials string
	listen, cert, key         string
	skip                      bool
}

func newEnvoyStaticCommand() *cobra.Command {
	var flags staticFlags
	cmd := &cobra.Command{
		Use:   "static",
		Short: "Print or write a complete configuration, for an Envoy without xds",
		Long: "Print the configuration of an Envoy that serves the APIs as they are now, with the filters and routes that xds\n" +
			"would give it. It asks authz about each request as ever: keys, tokens, subscriptions and revocations change at\n" +
			"once. Only another API, path or back end needs the command again, and an Envoy that is restarted.\n\n" +
			"The APIs come from the key manager, or from a file that \"tollgate get apis -o json\" has written.",
		Example: "  tollgate envoy static --listen 0.0.0.0:8443 --cert /etc/envoy/edge.crt --key /etc/envoy/edge.key --write-dir /etc/envoy",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	flags.register(cmd.Flags())
	for _, name := range []string{"xds", "xds-name", "access-log", "access-log-name"} {
		_ = cmd.Flags().MarkHidden(name)
	}
	cmd.Flags().StringVar(&flags.apis, "apis", "", "file with the APIs (default: ask the key manager)")
	cmd.Flags().StringVar(&flags.server, "server", "", "URL of the key manager (default: as the credentials file says)")
	cmd.Flags().StringVar(&flags.credentials, "credentials", "", "0600 file of an administrator (default: admin.json of the state folder)")
	cmd.Flags().StringVar(&flags.listen, "listen", "", "where Envoy listens: IP:PORT, and beyond this machine with --cert (default: gateway.address)")
	cmd.Flags().StringVar(&flags.cert, "cert", "", "certificate that clients see: HTTPS; PEM, an absolute path as Envoy sees it")
	cmd.Flags().StringVar(&flags.key, "key", "", "its private key")
	cmd.Flags().BoolVar(&flags.skip, "skip-refused", false, "leave out an API that cannot be served, instead of ending")
	return cmd
}

func (f *staticFlags) run(cmd *cobra.Command) error {
	if f.xds != nil || f.xdsName != "" || f.log != nil || f.logName != "" {
		return errors.New("--xds and --access-log: a static configuration has neither")
	}
	cfg, err := f.bootstrapFlags.server.config(cmd.Flags())
	if err != nil {
		return err
	}
	if len(cfg.XDS.Groups) > 0 {
		return errors.New("xds.groups: a static configuration is made from the section gateway; leave the groups out of its file")
	}
	opts, err := f.options(cmd.Flags())
	if err != nil {
		return err
	}
	apis, err := f.readAPIs(cmd.Context(), &cfg)
	if err != nil {
		return err
	}
	// Whoever names a receiver of usage records wants to have some.
	group, err := f.staticGroup(&cfg, opts.Group, opts.AccessLog != "" || len(opts.AccessLogServers.Addresses) > 0)
	if err != nil {
		return err
	}
	resources, refused, err := xds.Static(xds.StaticOptions{
		Group: group, APIs: apis, Certificates: map[string]xds.CertificateFiles{listenCertificate: {CertFile: f.cert, KeyFile: f.key}},
	})
	if err == nil && !f.skip {
		err = errors.Join(refused...)
	}
	if err != nil {
		return err
	}
	for _, r := range refused {
		cmd.PrintErrln("left out:", r)
	}
	opts.XDS, opts.Static = "", &bootstrap.Static{
		Listeners: resources.Listeners, Clusters: resources.Clusters, Secrets: resources.Secrets,
	}
	return f.write(cmd, opts)
}

// listenCertificate is what the listener's certificate is called.
const listenCertificate = "listener"

// staticGroup is the gateway group of the configuration, with the listener of
// the flags.
func (f *staticFlags) staticGroup(cfg *Config, name string, usage bool) (xds.Group, error) {
	listen, flag := f.listen, "--listen"
	if listen == "" {
		listen, flag = cfg.Gateway.Address, "gateway.address"
	}
	address, err := netip.ParseAddrPort(listen)
	if err != nil {
		return xds.Group{}, fmt.Errorf("%s is not IP:PORT: %q", flag, listen)
	}
	l := xds.Listener{Address: address.Addr().String(), Port: address.Port()}
	switch {
	case (f.cert == "") != (f.key == ""):
		return xds.Group{}, errors.New("--cert and --key belong together")
	case f.cert != "":
		for flag, path := range map[string]string{"--cert": f.cert, "--key": f.key} {
			if !filepath.IsAbs(path) {
				return xds.Group{}, fmt.Errorf("%s is not an absolute path: %q", flag, path)
			}
		}
		l.TLS = &xds.ListenerTLS{Certificates: []string{listenCertificate}}
	case !address.Addr().IsLoopback():
		return xds.Group{}, fmt.Errorf("%s is clear text and must stay on this machine: give --cert and --key, or use 127.0.0.1", flag)
	}
	token, err := tokenSocket(cfg)
	if err != nil {
		return xds.Group{}, err
	}
	return xds.Group{
		Name: name, Hosts: cfg.Gateway.Hosts, Listeners: []xds.Listener{l},
		TrustedHops: uint32(max(0, cfg.Gateway.TrustedHops)), // checked: 0 to 10
		AccessLog:   cfg.Gateway.AccessLog, Usage: usage, KeyManager: xds.KeyManager{Addresses: []string{"unix:" + token}}, CAFile: caFile(cfg.Gateway.CAFile),
	}, nil
}

// tokenSocket is where the key manager's token endpoint is on this machine.
func tokenSocket(cfg *Config) (string, error) {
	if cfg.KeyManager.Socket != "" {
		return cfg.KeyManager.Socket, nil
	}
	sockets, err := socketFolder(cfg.State.Dir)
	return filepath.Join(sockets, fileTokenSock), err
}

// readAPIs reads the APIs of the file, or of every organization of the key
// manager.
func (f *staticFlags) readAPIs(ctx context.Context, cfg *Config) ([]*keymanager.API, error) {
	var raw []json.RawMessage
	if f.apis != "" {
		data, err := readSmallFile(f.apis, maxManifestSize)
		if err != nil {
			return nil, fmt.Errorf("--apis: %w", err)
		}
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) { // of "get api NAME/VERSION"
			data = append(append([]byte{'['}, data...), ']')
		}
		if err := json.Unmarshal(data, &raw); err != nil {
			return nil, fmt.Errorf("--apis %s is not what \"tollgate get apis -o json\" prints: %w", f.apis, err)
		}
	} else {
		var err error
		if raw, err = f.listAPIs(ctx, cfg); err != nil {
			return nil, err
		}
	}
	var out []*keymanager.API
	for _, r := range raw {
		api, err := admin.ParseAPI(r)
		if err != nil {
			return nil, err
		}
		out = append(out, api)
	}
	return out, nil
}

func (f *staticFlags) listAPIs(ctx context.Context, cfg *Config) ([]json.RawMessage, error) {
	flags := clientFlags{state: cfg.State.Dir, server: f.server, credentials: f.credentials}
	c, err := flags.open()
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections()
	organizations, err := findKind("organizations")
	if err != nil {
		return nil, err
	}
	apis, err := findKind("apis")
	if err != nil {
		return nil, err
	}
	list, err := c.list(ctx, organizations.path("", ""))
	if err != nil {
		return nil, err
	}
	var out []json.RawMessage
	for _, raw := range list {
		var o struct{ Name string }
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, err
		}
		of, err := c.list(ctx, apis.path(o.Name, ""))
		if p := (*problem)(nil); errors.As(err, &p) && p.Status == http.StatusForbidden {
			return nil, fmt.Errorf("the APIs of %s: %w: --credentials must be an administrator's", o.Name, err)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, of...)
	}
	return out, nil
}
