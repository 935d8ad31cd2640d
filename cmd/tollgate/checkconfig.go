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
		Use:   "check-config [FILE] [authz] [keymanager] [xds]",
		Short: "Check a configuration file and the environment, and start nothing",
		Long: "Check a configuration file, the environment and the certificates that they name, and start nothing. With the roles\n" +
			"of the process behind the file it also finds what \"serve\" with these roles would refuse: settings that would be\n" +
			"without effect there.",
		Example: "  tollgate check-config authz.yaml authz",
		GroupID: "serve",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, name := "", "defaults and environment"
			if len(args) > 0 {
				path, name = args[0], args[0]
			}
			var r roles
			if len(args) > 1 {
				var err error
				if r, err = parseRoles(args[1:]); err != nil {
					return err
				}
			}
			cfg, err := readConfig(path, os.Environ(), r)
			if err != nil {
				return err
			}
			if err := checkCertificates(&cfg, r); err != nil {
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
