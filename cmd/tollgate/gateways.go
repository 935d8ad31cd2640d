package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tollgate/keymanager/admin"
)

// getGateways shows what runs what: each authz and xds, its Envoys, and what
// was refused.
func getGateways(cmd *cobra.Command, c *client, output string) error {
	items, err := c.list(cmd.Context(), admin.Prefix+"/gateways")
	if err != nil {
		return err
	}
	switch output {
	case "table":
		return printGateways(cmd.OutOrStdout(), items)
	case "json":
		return printJSON(cmd.OutOrStdout(), items, false)
	default:
		return fmt.Errorf("--output %q is not one of table, json", output)
	}
}

func printGateways(w io.Writer, items []json.RawMessage) error {
	tab := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(tab, "PART\tID\tGROUP\tSTATE\tLAG\tPOSITION\tREFUSED")
	var refused []admin.Rejected
	for _, raw := range items {
		var g admin.Gateway
		if err := json.Unmarshal(raw, &g); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", cell(g.Kind), cell(g.ID), cell(g.Group), cell(g.State), cell(g.Lag), cell(g.Confirmed), len(g.Rejected))
		refused = append(refused, g.Rejected...)
		for _, n := range g.Nodes {
			state := "GONE"
			if n.Connected {
				state = "CONNECTED"
			}
			_, _ = fmt.Fprintf(tab, "  envoy %s\t%s\t%s\t%s\t\t%s\t%d\n", cell(n.Version), cell(n.ID), cell(n.Group), state, cell(n.Acknowledged), len(n.Rejected))
			refused = append(refused, n.Rejected...)
		}
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	for _, r := range refused {
		by := "before it was sent"
		if r.Node != "" {
			by = "by " + cell(r.Node)
		}
		if _, err := fmt.Fprintf(w, "\nrefused %s: %s (API %s) since %s\n  %s\n", by, cell(r.Name), cell(r.API),
			r.Since.Format("2006-01-02 15:04:05"), cell(r.Reason)); err != nil {
			return err
		}
	}
	return nil
}
