package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newServeCommand() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "serve [authz] [keymanager] [xds]",
		Short: "Run key manager, authz and xds, or some of them, for Envoys of your own",
		Long: "Run the parts that are named in this process, all three if none is, until Ctrl-C or SIGTERM. Parts in different\n" +
			"processes find each other by the settings rpc and tls, and may start in any order.\n" +
			"\"tollgate envoy bootstrap\" prints what an Envoy starts with.",
		Example:   "  tollgate serve\n  tollgate serve keymanager --config keymanager.yaml\n  tollgate serve authz --config authz.yaml",
		GroupID:   "serve",
		ValidArgs: roleNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseRoles(args)
			if err != nil {
				return err
			}
			cfg, err := flags.configFor(cmd.Flags(), r)
			if err != nil {
				return err
			}
			logs := newLogWriter(cmd.ErrOrStderr())
			defer func() { _ = logs.Close() }()
			d, err := newDaemon(cmd.Context(), cfg, r, newLogger(logs, cfg.Log))
			if errors.Is(err, errStopped) {
				return nil
			}
			if err != nil {
				return err
			}
			defer d.close()
			d.logs = logs
			d.metrics.MustRegister(logs)
			return d.run(cmd.Context(), nil, func(context.Context) error {
				d.log.Info("ready", d.addresses()...)
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// addresses is where each part of this process is, for the log.
func (d *daemon) addresses() []any {
	out := []any{"roles", d.roles.String(), "ops", "http://" + d.opsListener.Addr().String()}
	if d.roles.keyManager {
		out = append(out, "keymanager", d.keyManagerURL(), "admin", d.state.Path(fileAdmin))
	}
	for _, l := range []struct {
		name string
		net.Listener
	}{{"rpc", d.rpcListener}, {"authz", d.authzListener}, {"authz_remote", d.remoteListener}, {"xds", d.xdsListener}} {
		if l.Listener != nil {
			out = append(out, l.name, l.Addr().String())
		}
	}
	return out
}

// serverFlags are the flags that serve, dev and migrate share. A flag wins over
// the environment, and that over the file.
type serverFlags struct {
	file                            string
	state, gateway, keyManager, ops string
	logLevel                        string
}

func (f *serverFlags) register(flags *pflag.FlagSet) {
	d := defaultConfig()
	flags.StringVar(&f.file, "config", "", "configuration file; see check-config")
	flags.StringVar(&f.state, "state", d.State.Dir, "state folder: database, keys, first credentials, sockets (state.dir)")
	flags.StringVar(&f.gateway, "gateway", d.Gateway.Address, "where Envoy listens (gateway.address)")
	flags.StringVar(&f.keyManager, "keymanager", d.KeyManager.Address, "where the key manager listens (keymanager.address)")
	flags.StringVar(&f.ops, "ops", d.Ops.Address, "where health, readiness and metrics are (ops.address)")
	flags.StringVar(&f.logLevel, "log-level", d.Log.Level, "debug, info, warn or error (log.level)")
}

// config reads the file and the environment, and lays the flags over them,
// whatever roles the process has.
func (f *serverFlags) config(flags *pflag.FlagSet) (Config, error) {
	return f.configFor(flags, roles{})
}

// configFor is config for a process with these roles.
func (f *serverFlags) configFor(flags *pflag.FlagSet, r roles) (Config, error) {
	set := map[string]string{
		"state": "STATE_DIR", "gateway": "GATEWAY_ADDRESS", "keymanager": "KEYMANAGER_ADDRESS", "ops": "OPS_ADDRESS",
		"log-level": "LOG_LEVEL", "sample-production": "SAMPLE_PRODUCTION", "sample-sandbox": "SAMPLE_SANDBOX", "envoy": "ENVOY_PATH",
	}
	environ := os.Environ()
	flags.Visit(func(flag *pflag.Flag) {
		if name, ok := set[flag.Name]; ok {
			environ = append(environ, envPrefix+name+"="+flag.Value.String())
		}
	})
	return readConfig(f.file, environ, r)
}
