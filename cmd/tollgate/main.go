// Command tollgate is the whole of Tollgate in one binary: the servers, a
// development gateway with a supervised Envoy, and the client of the
// management API. It is the only package that knows every other.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=…
var version = "devel"

func main() {
	os.Exit(run(os.Args[1:]))
}

// run executes the command line and returns the exit code. The first SIGTERM
// or Ctrl-C ends the command in good order; a second one ends it at once.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			text := err.Error()
			if !strings.Contains(text, "\n") { // several lines have their places in front
				text = "tollgate: " + text
			}
			fmt.Fprintln(os.Stderr, text)
		}
		return 1
	}
	return 0
}

// errReported ends a command with exit code 1 without a further message.
var errReported = errors.New("already reported")

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "tollgate",
		Short:         "The brain behind an Envoy API gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddGroup(
		&cobra.Group{ID: "serve", Title: "Servers:"},
		&cobra.Group{ID: "client", Title: "Client of the management API:"},
	)
	root.AddCommand(
		newDevCommand(),
		newServeCommand(),
		newMigrateCommand(),
		newEnvoyCommand(),
		newCheckConfigCommand(),
		newKeyFileCommand(),
		newApplyCommand(),
		newImportCommand(),
		newGetCommand(),
		newDeleteCommand(),
		newKeyCommand(),
		newAPIKeyCommand(),
		newTokenCommand(),
		newExplainCommand(),
		newVersionCommand(),
	)
	showUsage(root)
	return root
}

// showUsage adds to every complaint about arguments and flags what the command
// wants.
func showUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil && cmd.HasParent() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w (usage: %s)", err, cmd.UseLine())
			}
			return nil
		}
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	})
	for _, c := range cmd.Commands() {
		showUsage(c)
	}
}
