package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tollgate/envoy/bootstrap"
)

func newEnvoyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "envoy",
		Short:   "What an Envoy beside this key manager needs",
		GroupID: "serve",
	}
	cmd.AddCommand(newEnvoyBootstrapCommand())
	return cmd
}

func newEnvoyBootstrapCommand() *cobra.Command {
	var flags serverFlags
	var node, adminAddress string
	cmd := &cobra.Command{
		Use:     "bootstrap",
		Short:   "Print the configuration that an Envoy on this machine starts with",
		Example: "  tollgate envoy bootstrap > envoy.json\n  envoy -c envoy.json --concurrency 2 --use-dynamic-base-id",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.config(cmd.Flags())
			if err != nil {
				return err
			}
			sockets, err := socketFolder(cfg.State.Dir)
			if err != nil {
				return err
			}
			authz, xds := cfg.Authz.Socket, cfg.XDS.Address
			if authz == "" {
				authz = filepath.Join(sockets, fileAuthzSock)
			}
			if xds == "" {
				xds = filepath.Join(sockets, fileXDSSock)
			}
			text, err := renderBootstrap(&cfg, node, xds, authz, adminAddress)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&adminAddress, "admin", "", "where Envoy's own admin interface listens: 127.0.0.1:PORT or a socket's absolute path (default: a free port)")
	cmd.Flags().StringVar(&node, "node", "envoy-1", "name of this Envoy, unique in its gateway group")
	return cmd
}

// renderBootstrap renders the bootstrap of an Envoy that runs beside this
// process. An admin address "" takes a free loopback port.
func renderBootstrap(cfg *Config, node, xds, authz, admin string) ([]byte, error) {
	return bootstrap.Render(bootstrap.Options{
		NodeID: node, Group: cfg.Gateway.Group, XDS: xds, Authz: authz, Admin: admin,
		// It restarts with its neighbour, and often: do not make people wait.
		BackoffBase: 50 * time.Millisecond, BackoffMax: time.Second,
	})
}
