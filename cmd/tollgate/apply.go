package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

func newApplyCommand() *cobra.Command {
	var flags clientFlags
	var files []string
	var secrets string
	var opts applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE|FOLDER|- …",
		Short: "Make what YAML documents describe, all of them or nothing",
		Long: "Make or change what YAML documents describe: kind, organization, name and spec each. The server checks all\n" +
			"documents and applies them in one transaction; what is wrong is named with file and line, and then nothing is\n" +
			"applied. What is as described already is left alone.",
		Example: "  tollgate apply -f apis/\n  tollgate apply -f shop.yaml --dry-run\n  tollgate apply -f shop.yaml --wait=10s",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("what is %q? files are named with -f, and a time to wait with a sign: --wait=10s", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := readManifests(files, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if err := checkSecretsFolder(docs, secrets, opts.DryRun); err != nil {
				return err
			}
			c, err := flags.open()
			if err != nil {
				return err
			}
			result, err := c.apply(cmd.Context(), docs, opts)
			if err != nil {
				return err
			}
			if err := saveSecrets(cmd.OutOrStdout(), c.creds.Server, secrets, result); err != nil {
				return err
			}
			return printApplied(cmd.OutOrStdout(), docs, result, opts)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file, folder (its *.yaml, *.yml and *.json) or - for standard input; again for more")
	cmd.Flags().StringVarP(&opts.Organization, "organization", "n", "", "organization of documents that name none")
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "show what would change, and change nothing")
	cmd.Flags().DurationVar(&opts.Wait, "wait", 0, "wait until the gateways use the change, at most so long (30s if no time is given)")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
	cmd.Flags().StringVar(&secrets, "secrets", "", "folder for the 0600 credentials files of keys that are made")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

type applyOptions struct {
	Organization string
	DryRun       bool
	Wait         time.Duration
}

// applyError is a refusal of apply: each error names a document.
type applyError struct {
	problem
	Errors []struct {
		problemField
		Document *int `json:"document"`
	} `json:"errors"`
}

// apply sends all documents in one request. A refusal comes back with the file
// and line of each thing that is wrong.
func (c *client) apply(ctx context.Context, docs []document, opts applyOptions) (*admin.ApplyResult, error) {
	request := struct {
		Organization string            `json:"organization,omitempty"`
		DryRun       bool              `json:"dryRun,omitempty"`
		Wait         string            `json:"wait,omitempty"`
		Documents    []json.RawMessage `json:"documents"`
	}{Organization: opts.Organization, DryRun: opts.DryRun}
	if opts.Wait > 0 {
		request.Wait = opts.Wait.String()
	}
	for _, d := range docs {
		request.Documents = append(request.Documents, d.JSON)
	}
	var result admin.ApplyResult
	refusal := &applyError{}
	err := c.send(ctx, http.MethodPost, admin.Prefix+"/apply", request, &result, refusal)
	if !errors.Is(err, errRefused) {
		return &result, err
	}
	var lines []string
	for _, e := range refusal.Errors {
		if e.Document == nil || *e.Document < 0 || *e.Document >= len(docs) {
			lines = append(lines, strings.TrimPrefix(e.Pointer+": ", ": ")+e.Detail)
			continue
		}
		d := docs[*e.Document]
		at := manifestError{d.File, d.Line(e.Pointer), strings.TrimPrefix(e.Pointer+": ", ": ") + e.Detail}
		lines = append(lines, at.Error())
	}
	return nil, errors.New(strings.Join(append(lines, refusal.Detail), "\n"))
}

// printApplied tells what became of each document.
func printApplied(w io.Writer, docs []document, r *admin.ApplyResult, opts applyOptions) error {
	rejected := 0
	for _, d := range r.Documents {
		action := d.Action
		if r.DryRun && (d.Action == "created" || d.Action == "updated") {
			action = "would be " + d.Action
		}
		_, _ = fmt.Fprintf(w, "%s %s %s\n", d.Kind, cell(d.Organization+"/"+d.Name), action)
		for _, c := range d.Changes {
			_, _ = fmt.Fprintf(w, "    %s:%d %s: %s → %s\n", docs[d.Document].File, docs[d.Document].Line(c.Pointer),
				c.Pointer, shownValue(c.Before), shownValue(c.After))
		}
		if d.Rejected != "" {
			rejected++
			_, _ = fmt.Fprintf(w, "    the gateways refuse it: %s\n", cell(d.Rejected))
		}
	}
	summary := fmt.Sprintf("%d created, %d updated, %d unchanged", r.Created, r.Updated, r.Unchanged)
	switch {
	case rejected > 0:
		_, _ = fmt.Fprintln(w, summary)
		return fmt.Errorf("applied, but the gateways refuse %d of the APIs, and go on with what they had; see tollgate get gateways", rejected)
	case r.DryRun:
		summary = fmt.Sprintf("dry run, nothing is changed: %d to create, %d to update, %d as described", r.Created, r.Updated, r.Unchanged)
	case r.Created+r.Updated == 0:
	case r.Confirmed:
		summary += "; the gateways use it"
	case opts.Wait > 0:
		_, _ = fmt.Fprintln(w, summary)
		return fmt.Errorf("applied, but the gateways have not confirmed it within %s; see tollgate get gateways", opts.Wait)
	default:
		summary += "; the gateways have not confirmed it yet"
	}
	_, err := fmt.Fprintln(w, summary)
	return err
}

func shownValue(v any) string {
	if v == nil {
		return "(none)"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return cell(string(data))
}

// checkSecretsFolder makes sure, before anything is made, that secrets which
// are shown once have a place.
func checkSecretsFolder(docs []document, folder string, dryRun bool) error {
	for _, d := range docs {
		if d.Kind != "Key" || dryRun {
			continue
		}
		if folder == "" {
			return manifestError{d.File, d.Line("/kind"), "a new key has a secret that is shown once: name a folder for it with --secrets"}
		}
		return os.MkdirAll(folder, 0o700)
	}
	return nil
}

// saveSecrets writes the credential of each key that was made.
func saveSecrets(w io.Writer, server, folder string, r *admin.ApplyResult) error {
	var errs []error
	for _, d := range r.Documents {
		if d.Secret == nil {
			continue
		}
		name := strings.ReplaceAll(d.Organization+"."+d.Name, "/", ".") + ".json"
		path := filepath.Join(folder, filepath.Base(name))
		creds := Credentials{Server: server, ConsumerKey: keymanager.ConsumerKey(d.Secret.ConsumerKey), ConsumerSecret: Secret(d.Secret.ClientSecret)}
		if err := writePrivateJSON(path, creds); err != nil {
			errs = append(errs, err)
			continue
		}
		_, _ = fmt.Fprintf(w, "%s: consumer key and secret of %s\n", path, d.Name)
	}
	return errors.Join(errs...)
}
