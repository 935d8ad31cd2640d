package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/keymanager/admin"
)

// maxOpenAPI bounds a document that "import" reads: what the server takes.
const maxOpenAPI = 2 << 20

func newImportCommand() *cobra.Command {
	var flags clientFlags
	var org string
	var as struct{ name, version, context string }
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make an API of an OpenAPI document, or bring one up to date with it",
		Long: "Make an API of an OpenAPI 3 or Swagger 2 document, JSON or YAML, or bring the one of that name and version up to\n" +
			"date with it. A new one is in the state CREATED and takes no calls yet: \"get api NAME/VERSION -o yaml\" prints it\n" +
			"for apply, to add tiers and to publish it.",
		Example: "  tollgate import petstore.yaml --name petstore --context /petstore",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, mediaType, err := readOpenAPI(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := flags.open()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"name": as.name, "version": as.version, "context": as.context} {
				if value != "" {
					query.Set(name, value)
				}
			}
			apis, err := findKind("apis")
			if err != nil {
				return err
			}
			var answer admin.Imported
			if err := c.call(cmd.Context(), http.MethodPost, apis.path(org, "")+":import?"+query.Encode(), rawBody{document, mediaType}, &answer); err != nil {
				return err
			}
			return printImported(cmd.OutOrStdout(), &answer)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&org, "organization", "n", string(admin.DefaultOrganization), "organization of the API")
	cmd.Flags().StringVar(&as.name, "name", "", "name of the API (default: the document's title)")
	cmd.Flags().StringVar(&as.version, "version", "", "version of the API (default: the document's)")
	cmd.Flags().StringVar(&as.context, "context", "", "context of the API (default: x-wso2-basePath, or the path of the first server)")
	return cmd
}

// readOpenAPI reads a document and tells its media type.
func readOpenAPI(path string, stdin io.Reader) (document []byte, mediaType string, err error) {
	if path == "-" {
		document, err = io.ReadAll(io.LimitReader(stdin, maxOpenAPI+1))
	} else {
		document, err = readSmallFile(path, maxOpenAPI)
	}
	if strings.EqualFold(filepath.Ext(path), ".json") {
		return document, "application/json", err
	}
	return document, "application/yaml", err // of which JSON is a part
}

func printImported(w io.Writer, a *admin.Imported) error {
	for _, warning := range a.Warnings {
		_, _ = fmt.Fprintf(w, "not taken over: %s\n", cell(strings.TrimPrefix(warning.Pointer+": ", ": ")+warning.Detail))
	}
	spec := a.API.Spec
	_, err := fmt.Fprintf(w, "API %s/%s: context %s, resources %d, tiers %s, state %s\n", cell(a.API.Name), cell(spec.Version),
		cell(spec.Context), len(spec.Resources), cell(strings.Join(spec.Tiers, ",")), cell(spec.State))
	return err
}
