package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// keyFlags are those of the commands below "key" and "api-key".
type keyFlags struct {
	clientFlags
	org, keyType, output string
}

func (f *keyFlags) register(cmd *cobra.Command, withType, withOutput bool) {
	f.clientFlags.register(cmd)
	cmd.GroupID = ""
	cmd.Flags().StringVarP(&f.org, "organization", "n", string(admin.DefaultOrganization), "organization of the application")
	if withType {
		f.keyType = string(keymanager.Production)
		cmd.Flags().Var((*upperCase)(&f.keyType), "type", "PRODUCTION or SANDBOX: the endpoints that it reaches")
	}
	if withOutput {
		cmd.Flags().StringVar(&f.output, "output", "", "0600 file to write the credential to; it must not exist")
		_ = cmd.MarkFlagRequired("output")
	}
}

// upperCase is the value of a flag that is typed in any case.
type upperCase string

func (u *upperCase) String() string     { return string(*u) }
func (u *upperCase) Type() string       { return "string" }
func (u *upperCase) Set(s string) error { *u = upperCase(strings.ToUpper(s)); return nil }

// application returns the URL path of an application, with more below it.
func (f *keyFlags) application(name string, more ...string) string {
	kind, _ := findKind("application")
	parts := []string{kind.path(f.org, name)}
	for _, m := range more {
		parts = append(parts, url.PathEscape(m))
	}
	return strings.Join(parts, "/")
}

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Short:   "Consumer keys of an application, which get access tokens",
		GroupID: "client",
	}
	cmd.AddCommand(newKeyCreateCommand(), newKeySecretCommand(), newKeyListCommand(), newKeyDeleteCommand())
	return cmd
}

func newKeyCreateCommand() *cobra.Command {
	return newCredentialsCommand(&cobra.Command{
		Use:     "create APPLICATION",
		Short:   "Generate a consumer key and its first secret, into a 0600 file",
		Example: "  tollgate key create shop --output shop.json\n  tollgate token --credentials shop.json",
	}, createConsumerKey)
}

func newKeySecretCommand() *cobra.Command {
	return newCredentialsCommand(&cobra.Command{
		Use:   "secret APPLICATION",
		Short: "Make one more secret of a consumer key, into a 0600 file",
	}, createSecret)
}

// newCredentialsCommand completes a command that writes what issue returns. keys
// is the path of the application's keys.
func newCredentialsCommand(cmd *cobra.Command, issue func(ctx context.Context, c *client, keys string, t keymanager.KeyType) (Credentials, error)) *cobra.Command {
	var flags keyFlags
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := flags.open()
		if err != nil {
			return err
		}
		return reserveFile(flags.output, func() error {
			creds, err := issue(cmd.Context(), c, flags.application(args[0], "keys"), keymanager.KeyType(flags.keyType))
			if err != nil {
				return err
			}
			return saveCredentials(cmd, flags.output, creds)
		})
	}
	flags.register(cmd, true, true)
	return cmd
}

func newKeyListCommand() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "list APPLICATION",
		Short: "List the consumer keys of an application",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			items, err := c.list(cmd.Context(), flags.application(args[0], "keys"))
			if err != nil {
				return err
			}
			return printTable(cmd.OutOrStdout(), []column{{"CONSUMER KEY", "consumerKey"}, {"TYPE", "keyType"},
				{"GRANTS", "spec.grantTypes"}, {"TOKEN LIFETIME", "spec.tokenLifetime"}, {"CREATED", "createdAt"}}, items)
		},
	}
	flags.register(cmd, false, false)
	return cmd
}

func newKeyDeleteCommand() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "delete APPLICATION",
		Short: "Delete a consumer key with its secrets; its tokens are refused at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open()
			if err != nil {
				return err
			}
			key, err := findConsumerKey(cmd.Context(), c, flags.application(args[0], "keys"), keymanager.KeyType(flags.keyType))
			if err != nil {
				return err
			}
			err = c.call(cmd.Context(), http.MethodDelete, flags.application(args[0], "keys", string(key)), nil, nil)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "consumer key %s deleted\n", key)
			}
			return err
		},
	}
	flags.register(cmd, true, false)
	return cmd
}

// issuedSecret is a client secret as the management API shows it once.
type issuedSecret struct {
	ConsumerKey  keymanager.ConsumerKey `json:"consumerKey"`
	ClientSecret Secret                 `json:"clientSecret"`
}

// createConsumerKey generates a consumer key with its first secret. keys is the
// path of the application's keys.
func createConsumerKey(ctx context.Context, c *client, keys string, t keymanager.KeyType) (Credentials, error) {
	var key struct {
		Secret issuedSecret `json:"secret"`
	}
	err := c.call(ctx, http.MethodPost, keys, map[string]string{"keyType": string(t)}, &key)
	return c.credentials(key.Secret), err
}

// createSecret makes one more secret for the consumer key of a type.
func createSecret(ctx context.Context, c *client, keys string, t keymanager.KeyType) (Credentials, error) {
	key, err := findConsumerKey(ctx, c, keys, t)
	if err != nil {
		return Credentials{}, err
	}
	var issued issuedSecret
	err = c.call(ctx, http.MethodPost, keys+"/"+url.PathEscape(string(key))+"/secrets", struct{}{}, &issued)
	return c.credentials(issued), err
}

func (c *client) credentials(s issuedSecret) Credentials {
	return Credentials{Server: c.creds.Server, ConsumerKey: s.ConsumerKey, ConsumerSecret: s.ClientSecret}
}

func findConsumerKey(ctx context.Context, c *client, keys string, t keymanager.KeyType) (keymanager.ConsumerKey, error) {
	var page struct {
		Items []struct {
			ConsumerKey keymanager.ConsumerKey `json:"consumerKey"`
			KeyType     keymanager.KeyType     `json:"keyType"`
		} `json:"items"`
	}
	if err := c.call(ctx, http.MethodGet, keys, nil, &page); err != nil {
		return "", err
	}
	for _, k := range page.Items {
		if k.KeyType == t {
			return k.ConsumerKey, nil
		}
	}
	return "", fmt.Errorf("the application has no %s key: key create makes one", t)
}

func saveCredentials(cmd *cobra.Command, path string, creds Credentials) error {
	if err := writePrivateJSON(path, creds); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "consumer key %s; its secret is in %s\n", creds.ConsumerKey, path)
	return err
}
