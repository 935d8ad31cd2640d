package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tollgate/envoy/process"
)

func newEnvoyDrainCommand() *cobra.Command {
	var admin string
	var balancer, rest time.Duration
	var pid int
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take an Envoy out of service without cutting a request",
		Long: "Take an Envoy out of service: its health checks fail, and after --balancer its listeners drain and close; the\n" +
			"command ends when the last connection has. Only then may Envoy get SIGTERM, which cuts what is left at once.\n" +
			"How long the listeners take is Envoy's own --drain-time-s.",
		Example: "  tollgate envoy drain --admin 127.0.0.1:9901 --balancer 15s && systemctl stop envoy",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isLocal(admin) {
				return errors.New("--admin is neither a socket's absolute path nor 127.0.0.1:PORT")
			}
			if balancer < 0 || rest <= 0 {
				return errors.New("--balancer must not be negative, and --rest more than 0s")
			}
			err := process.NewAdmin(admin).Drain(cmd.Context(), process.DrainOptions{
				Balancer: balancer, Rest: rest,
				Said: func(step string) { _, _ = fmt.Fprintln(cmd.OutOrStdout(), step) },
			})
			if err != nil || pid == 0 {
				return err
			}
			return terminate(pid)
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "", "Envoy's admin interface: 127.0.0.1:PORT or a socket's absolute path")
	cmd.Flags().DurationVar(&balancer, "balancer", 15*time.Second, "how long the load balancers in front need to see that health checks fail")
	cmd.Flags().DurationVar(&rest, "rest", 90*time.Second, "how long to wait then: --drain-time-s of Envoy and the longest request")
	cmd.Flags().IntVar(&pid, "pid", 0, "process that gets SIGTERM at the end; it must be an Envoy (default: none)")
	return cmd
}

// terminate ends an Envoy, and no other process that has its number by now.
func terminate(pid int) error {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Errorf("--pid %d: %w", pid, err)
	}
	if !strings.HasPrefix(string(name), "envoy") {
		return fmt.Errorf("--pid %d is %s, not envoy", pid, strings.TrimSpace(string(name)))
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}
