package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newCheckConfigCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:     "check-config [FILE]",
		Short:   "Check a configuration file and the environment, and start nothing",
		GroupID: "serve",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, name := "", "defaults and environment"
			if len(args) == 1 {
				path, name = args[0], args[0]
			}
			cfg, err := readConfig(path, os.Environ())
			if err != nil {
				return err
			}
			if !show {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: valid\n", name)
				return err
			}
			out, err := yaml.Marshal(cfg)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "print every value that would be used; secrets as ***")
	return cmd
}
