package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"tollgate/keymanager/admin"
)

func newGetCommand() *cobra.Command {
	var flags clientFlags
	var org, output string
	cmd := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show objects: " + kindNames() + ", gateways",
		Long: "Show objects as a table, or as YAML that apply takes again, or as JSON.\n\n" +
			"KIND is one of " + kindNames() + ", gateways. NAME is the object's name: of an API NAME/VERSION,\n" +
			"of a user NAME or DOMAIN/NAME.",
		Example: "  tollgate get apis\n  tollgate get api pets/1.0.0 -o yaml\n  tollgate get gateways",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			if args[0] == "gateways" || args[0] == "gateway" {
				return getGateways(cmd, c, output)
			}
			kind, err := findKind(args[0])
			if err != nil {
				return err
			}
			var items []json.RawMessage
			if len(args) == 2 {
				if err := kind.checkName(args[1]); err != nil {
					return err
				}
				var one json.RawMessage
				err = c.call(cmd.Context(), http.MethodGet, kind.path(org, args[1]), nil, &one)
				items = []json.RawMessage{one}
			} else {
				items, err = c.list(cmd.Context(), kind.path(org, ""))
			}
			if err != nil {
				return err
			}
			return printObjects(cmd, output, kind, items, len(args) == 2)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&org, "organization", "n", string(admin.DefaultOrganization), "organization of the objects")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, yaml or json")
	return cmd
}

func printObjects(cmd *cobra.Command, output string, kind clientKind, items []json.RawMessage, one bool) error {
	switch output {
	case "table":
		columns := append([]column{{"NAME", "name"}}, kind.columns...)
		return printTable(cmd.OutOrStdout(), append(columns, column{"REVISION", "revision"}), items)
	case "yaml":
		return printYAML(cmd.OutOrStdout(), items)
	case "json":
		return printJSON(cmd.OutOrStdout(), items, one)
	default:
		return fmt.Errorf("--output %q is not one of table, yaml, json", output)
	}
}
