package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"tollgate/envoy"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "tollgate %s (%s, %s/%s), for Envoy %s or newer\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, envoy.MinVersion)
			return err
		},
	}
}
