package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tollgate/keymanager/admin"
)

func newAPIKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "api-key",
		Short:   "API keys of an application: long-lived credentials for the header apikey",
		GroupID: "client",
	}
	cmd.AddCommand(newAPIKeyCreateCommand(), newAPIKeyListCommand(), newAPIKeyRevokeCommand())
	return cmd
}

func newAPIKeyCreateCommand() *cobra.Command {
	var flags keyFlags
	var networks, referers []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:     "create APPLICATION NAME",
		Short:   "Make an API key, into a 0600 file",
		Example: "  tollgate api-key create shop till-7 --network 192.0.2.0/24 --output till-7.key",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			body := admin.NewAPIKey{Name: args[1], KeyType: flags.keyType, Networks: networks, Referers: referers}
			if life > 0 {
				body.ExpiresAt = time.Now().Add(life).UTC().Format(time.RFC3339)
			}
			return reserveFile(flags.output, func() error {
				var key struct {
					ID  string `json:"id"`
					Key Secret `json:"key"`
				}
				if err := c.call(cmd.Context(), http.MethodPost, flags.application(args[0], "api-keys"), body, &key); err != nil {
					return err
				}
				if err := writePrivate(flags.output, []byte(string(key.Key)+"\n")); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "API key %s of %s is in %s\n", key.ID, args[0], flags.output)
				return err
			})
		},
	}
	flags.register(cmd, true, true)
	cmd.Flags().StringSliceVar(&networks, "network", nil, "address or network (CIDR) it may be used from; again for more (default: any)")
	cmd.Flags().StringSliceVar(&referers, "referer", nil, "Referer it may be used with, * for any run of characters; again for more (default: any)")
	cmd.Flags().DurationVar(&life, "life", 0, "how long it is valid (default: until it is revoked)")
	return cmd
}

func newAPIKeyListCommand() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "list APPLICATION",
		Short: "List the API keys of an application, without the keys",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			items, err := c.list(cmd.Context(), flags.application(args[0], "api-keys"))
			if err != nil {
				return err
			}
			return printTable(cmd.OutOrStdout(), []column{{"ID", "id"}, {"NAME", "name"}, {"TYPE", "keyType"}, {"STATUS", "status"},
				{"ENDS IN", "last4"}, {"NETWORKS", "networks"}, {"REFERERS", "referers"}, {"EXPIRES", "expiresAt"}}, items)
		},
	}
	flags.register(cmd, false, false)
	return cmd
}

func newAPIKeyRevokeCommand() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "revoke APPLICATION ID",
		Short: "Revoke an API key; it stays in the list",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), http.MethodDelete, flags.application(args[0], "api-keys", args[1]), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "API key %s revoked\n", args[1])
			return err
		},
	}
	flags.register(cmd, false, false)
	return cmd
}

// reserveFile makes sure that a file can be written before write makes what is
// shown once, and leaves none behind if that fails. An existing one is kept.
func reserveFile(path string, write func() error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and is not overwritten: name another file with --output", path)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := write(); err != nil {
		if info, serr := os.Stat(path); serr == nil && info.Size() == 0 {
			_ = os.Remove(path)
		}
		return err
	}
	return nil
}
