package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func newExplainCommand() *cobra.Command {
	var flags clientFlags
	var tokenFile, client, referer string
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say what would become of a request, and why",
		Long: "Say what would become of a request: which route, API, resource and verdict, and why. It is authz's own walk,\n" +
			"without caches. The exit code is 0 if the request would be allowed.",
		Example: "  tollgate explain GET http://localhost:8080/pets/1.0.0/pets --token-file shop.token\n" +
			"  tollgate token --credentials shop.json | tollgate explain GET /pets/1.0.0/pets --token-file -",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			credential, err := readToken(tokenFile, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := flags.open()
			if err != nil {
				return err
			}
			var answer explainAnswer
			err = c.call(cmd.Context(), http.MethodPost, explainPath, explainRequest{
				Method: strings.ToUpper(args[0]), URL: args[1], Credential: credential, ClientAddress: client, Referer: referer,
			}, &answer)
			if err != nil {
				return err
			}
			if err := printExplained(cmd.OutOrStdout(), &answer); err != nil {
				return err
			}
			if !answer.Allowed {
				return errReported
			}
			return nil
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the access token or API key to present, or - for standard input (default: none)")
	cmd.Flags().StringVar(&client, "client-address", "", "address that the caller has, for keys that are bound to networks")
	cmd.Flags().StringVar(&referer, "referer", "", "Referer that the caller sends, for keys that are bound to referers")
	return cmd
}

// readToken reads the credential to ask about, "" for none.
func readToken(path string, stdin io.Reader) (string, error) {
	switch path {
	case "":
		return "", nil
	case "-":
		data, err := io.ReadAll(io.LimitReader(stdin, maxSecretSize))
		return strings.TrimSpace(string(data)), err
	default:
		return readSecretFile(path)
	}
}

// printExplained shows the walk step by step, and what it came to.
func printExplained(w io.Writer, a *explainAnswer) error {
	for _, s := range a.Steps {
		mark := "✓"
		if !s.Passed {
			mark = "✗"
		}
		_, _ = fmt.Fprintf(w, "%s %s: %s\n", mark, s.Name, cell(s.Detail))
	}
	_, _ = fmt.Fprintln(w)
	for _, line := range []struct{ name, value string }{
		{"api", a.API}, {"route", a.Route}, {"resource", a.Resource},
		{"application", a.Application}, {"organization", string(a.Organization)}, {"consumer key", string(a.ConsumerKey)},
		{"key type", string(a.KeyType)}, {"token id", a.TokenID}, {"subscription", strings.TrimSpace(string(a.State) + " " + string(a.Tier))},
		{"goes to", string(a.Environment)}, {"note", a.Note},
	} {
		if line.value != "" {
			_, _ = fmt.Fprintf(w, "%-13s %s\n", line.name, cell(line.value))
		}
	}
	if a.Allowed {
		_, err := fmt.Fprintln(w, "allowed")
		return err
	}
	_, err := fmt.Fprintf(w, "refused: %d, code %s, %s (%s)\n", a.Status, a.Code, a.Message, a.Reason)
	return err
}
