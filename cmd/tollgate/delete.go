package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"tollgate/keymanager/admin"
)

func newDeleteCommand() *cobra.Command {
	var flags clientFlags
	var org string
	cmd := &cobra.Command{
		Use:     "delete KIND NAME",
		Short:   "Delete one object",
		Long:    "Delete one object. What others still refer to (an API with subscriptions) is refused.",
		Example: "  tollgate delete subscription demo-pets\n  tollgate delete api pets/1.0.0",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := findKind(args[0])
			if err != nil {
				return err
			}
			if err := kind.checkName(args[1]); err != nil {
				return err
			}
			c, err := flags.open()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), http.MethodDelete, kind.path(org, args[1]), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s deleted\n", kind.names[1], args[1])
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&org, "organization", "n", string(admin.DefaultOrganization), "organization of the object")
	return cmd
}
