package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newServeCommand() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run key manager, authz and xds for an Envoy of your own",
		Long:    "Run key manager, authz and xds in this process until Ctrl-C or SIGTERM.\n\"tollgate envoy bootstrap\" prints what an Envoy beside it starts with.",
		GroupID: "serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.config(cmd.Flags())
			if err != nil {
				return err
			}
			d, err := newDaemon(cmd.Context(), cfg, newLogger(cmd.ErrOrStderr(), cfg.Log))
			if err != nil {
				return err
			}
			defer d.close()
			return d.run(cmd.Context(), nil, func(ctx context.Context) error {
				d.log.Info("ready", "keymanager", serverURL(d.keyManager.Addr()), "ops", serverURL(d.ops.Addr()),
					"authz", d.authzListener.Addr().String(), "xds", d.xdsListener.Addr().String(), "admin", d.state.Path(fileAdmin))
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	return cmd
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

// config reads the file and the environment, and lays the flags over them.
func (f *serverFlags) config(flags *pflag.FlagSet) (Config, error) {
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
	return readConfig(f.file, environ)
}
