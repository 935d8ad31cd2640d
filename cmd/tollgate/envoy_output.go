package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"tollgate/envoy/bootstrap"
)

// outputFlags say where a configuration of Envoy goes, and how it is written.
type outputFlags struct {
	format, dir string
	force       bool
}

func (f *outputFlags) register(flags *pflag.FlagSet, name string) {
	flags.StringVar(&f.format, "format", "", "yaml, with comments, or json (default: json, with --write-dir yaml)")
	flags.StringVar(&f.dir, "write-dir", "", "write "+name+".yaml and what belongs to it into this folder, instead of printing it")
	flags.BoolVar(&f.force, "force", false, "with --write-dir: replace files that are there")
}

// write prints or writes files, of which the first is JSON, has a path without
// an ending, and is what Envoy is started with; the others are YAML.
func (f *outputFlags) write(w io.Writer, files []bootstrap.File, comments map[string]string) error {
	format := f.format
	switch {
	case format == "" && f.dir == "":
		format = "json"
	case format == "":
		format = "yaml"
	}
	first := &files[0]
	switch format {
	case "json":
	case "yaml":
		text, err := bootstrap.YAML(first.Content, comments)
		if err != nil {
			return err
		}
		first.Content = text
	default:
		return fmt.Errorf("--format %q is not yaml or json", f.format)
	}
	first.Path += "." + format
	if f.dir != "" {
		return f.writeFiles(w, files)
	}
	if len(files) > 1 && format == "json" {
		return errors.New("--format json has no place for the SDS files: use --format yaml, or --write-dir")
	}
	if f.force {
		return errors.New("--force is for --write-dir")
	}
	out := bytes.NewBuffer(first.Content)
	for _, file := range files[1:] {
		fmt.Fprintf(out, "\n# %s, a file of its own (--write-dir writes it):\n", file.Path)
		for line := range strings.Lines(string(file.Content)) {
			out.WriteString("#   " + line)
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

// writeFiles writes all files or, if one is there already, none.
func (f *outputFlags) writeFiles(w io.Writer, files []bootstrap.File) error {
	var there []string
	for i := range files {
		files[i].Path = filepath.Join(f.dir, files[i].Path)
		if _, err := os.Lstat(files[i].Path); err == nil {
			there = append(there, files[i].Path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(there) > 0 && !f.force {
		return fmt.Errorf("--write-dir: %s there already: --force replaces what is there", are(there))
	}
	for _, file := range files {
		if err := writeReadable(file.Path, file.Content); err != nil {
			return fmt.Errorf("--write-dir: %w", err)
		}
		if _, err := fmt.Fprintln(w, file.Path); err != nil {
			return err
		}
	}
	return nil
}

func are(paths []string) string {
	if len(paths) == 1 {
		return paths[0] + " is"
	}
	return strings.Join(paths, ", ") + " are"
}

// writeReadable writes a file that everybody may read, in one step: Envoy often
// runs as another user, and there is no secret in it.
func writeReadable(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // see above
		return err
	}
	temp, err := os.CreateTemp(dir, ".envoy-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
