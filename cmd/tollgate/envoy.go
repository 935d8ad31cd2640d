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
		Short:   "What an Envoy of your own needs: its bootstrap, a static configuration, a drain",
		GroupID: "serve",
	}
	cmd.AddCommand(newEnvoyBootstrapCommand(), newEnvoyStaticCommand(), newEnvoyDrainCommand())
	return cmd
}

// renderBootstrap renders the bootstrap of an Envoy that runs beside this
// process. An admin address "" takes a free loopback port.
func renderBootstrap(cfg *Config, node, xds, authz, usage, admin string) ([]byte, error) {
	return bootstrap.Render(bootstrap.Options{
		NodeID: node, Group: cfg.Gateway.Group, XDS: xds, Authz: authz, AccessLog: usage, Admin: admin,
		HeapLimit: heapLimit(uint64(max(0, availableMemory()))),
		// It restarts with its neighbour, and often: do not make people wait.
		BackoffBase: 50 * time.Millisecond, BackoffMax: time.Second,
	})
}

// heapLimit leaves a quarter of the memory to what Envoy's heap does not count:
// code, stacks, buffers of the kernel. 0 is unknown.
func heapLimit(memory uint64) uint64 { return memory / 4 * 3 }

// neighbours are the sockets of the processes with this configuration: what an
// Envoy beside them talks to. usage is "" where it sends no usage records.
func neighbours(cfg *Config) (xds, authz, usage string, err error) {
	sockets, err := socketFolder(cfg.State.Dir)
	if err != nil {
		return "", "", "", err
	}
	xds, authz = cfg.XDS.Address, cfg.Authz.Socket
	if authz == "" {
		authz = filepath.Join(sockets, fileAuthzSock)
	}
	if xds == "" {
		xds = filepath.Join(sockets, fileXDSSock)
	}
	if cfg.Gateway.Usage {
		if usage = cfg.RPC.Address; usage == "" {
			usage = filepath.Join(sockets, fileRPCSock)
		}
	}
	return xds, authz, usage, nil
}
