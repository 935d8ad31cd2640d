package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func newTokenCommand() *cobra.Command {
	var flags clientFlags
	var scopes []string
	var output string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Get an access token with the credentials of a file",
		Long: "Get an access token by the client_credentials grant, with the consumer key and secret of a 0600 file\n" +
			"(key create writes one), and print it, or write it to a 0600 file.",
		Example: "  tollgate token --credentials shop.json --scope pets:write --output shop.token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			answer, err := c.requestToken(cmd.Context(), scopes...)
			if err != nil {
				return err
			}
			text := answer.AccessToken
			if asJSON {
				data, err := json.MarshalIndent(answer, "", "  ") //nolint:gosec // the token is what was asked for
				if err != nil {
					return err
				}
				text = string(data)
			}
			if output != "" {
				return writePrivate(output, []byte(text+"\n"))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "scope to ask for; again for more (default: all scopes of the APIs that the application is subscribed to)")
	cmd.Flags().StringVar(&output, "output", "", "write the token to this 0600 file instead of printing it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the whole answer: access_token, token_type, expires_in, scope")
	cmd.AddCommand(newTokenRevokeCommand())
	return cmd
}

func newTokenRevokeCommand() *cobra.Command {
	var flags clientFlags
	var file string
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke an access token; gateways refuse it at once",
		Long: "Revoke an access token that was issued to the consumer key of the credentials file. A token that is unknown or\n" +
			"has ended is as good as revoked.",
		Example: "  tollgate token revoke --credentials shop.json --token-file shop.token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := readToken(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := flags.open()
			if err != nil {
				return err
			}
			if err := c.revokeToken(cmd.Context(), token); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the token is revoked")
			return err
		},
	}
	flags.register(cmd)
	cmd.GroupID = ""
	cmd.Flags().StringVar(&file, "token-file", "", "file with the access token, or - for standard input")
	_ = cmd.MarkFlagRequired("token-file")
	return cmd
}
