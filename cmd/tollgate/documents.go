package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxManifestSize bounds a file that "apply" reads.
const maxManifestSize = 64 << 20

// document is one YAML document of a manifest: kind, organization, name and
// spec, with the place of each value.
type document struct {
	File string
	Kind string
	Name string
	JSON json.RawMessage // the whole document
	root *yaml.Node
}

// documentKeys are the keys that a document may have at its top.
var documentKeys = []string{"kind", "organization", "name", "spec"}

// manifestError is one thing wrong at one place of a manifest.
type manifestError struct {
	File    string
	Line    int
	Message string
}

// Error returns file:line: message.
func (e manifestError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message) }

// readManifests reads the documents of every path, in order: a file, "-" for
// standard input, or a folder, of which *.yaml, *.yml and *.json are read in
// order of name.
func readManifests(paths []string, stdin io.Reader) ([]document, error) {
	files, err := manifestFiles(paths)
	if err != nil {
		return nil, err
	}
	var docs []document
	for _, file := range files {
		var data []byte
		if file == "-" {
			data, err = io.ReadAll(io.LimitReader(stdin, maxManifestSize))
			file = "stdin"
		} else {
			data, err = readSmallFile(file, maxManifestSize)
		}
		if err != nil {
			return nil, err
		}
		more, err := parseManifest(file, data)
		if err != nil {
			return nil, err
		}
		docs = append(docs, more...)
	}
	if len(docs) == 0 {
		return nil, errors.New("no documents found")
	}
	return docs, nil
}

func manifestFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if path == "-" {
			files = append(files, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path) // sorted by name
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".yaml", ".yml", ".json":
				if !e.IsDir() {
					files, found = append(files, filepath.Join(path, e.Name())), true
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: no *.yaml, *.yml or *.json file in this folder", path)
		}
	}
	return files, nil
}

// parseManifest splits data into documents. Empty documents are passed over.
// All errors of the file are reported together.
func parseManifest(file string, data []byte) ([]document, error) {
	var docs []document
	var errs []error
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	for {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return docs, errors.Join(errs...)
		}
		if err != nil { // syntax: the rest cannot be read
			return nil, errors.Join(append(errs, configError(file, err))...)
		}
		doc, err := newDocument(file, &root)
		if err != nil {
			errs = append(errs, err)
		} else if doc.root != nil {
			docs = append(docs, doc)
		}
	}
}

func newDocument(file string, root *yaml.Node) (document, error) {
	if len(root.Content) != 1 || root.Content[0].Tag == "!!null" {
		return document{}, nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return document{}, manifestError{file, top.Line, "a document is a mapping of " + strings.Join(documentKeys, ", ")}
	}
	value, err := (&converter{file: file}).value(top)
	if err != nil {
		return document{}, err
	}
	doc := document{File: file, root: top}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, v := top.Content[i], top.Content[i+1]
		if !slices.Contains(documentKeys, key.Value) {
			return document{}, manifestError{file, key.Line,
				fmt.Sprintf("unknown key %q; allowed: %s", key.Value, strings.Join(documentKeys, ", "))}
		}
		switch key.Value {
		case "kind":
			doc.Kind = v.Value
		case "name":
			doc.Name = v.Value
		}
	}
	if doc.Kind == "" {
		return document{}, manifestError{file, top.Line, "kind is missing"}
	}
	if doc.JSON, err = json.Marshal(value); err != nil {
		return document{}, manifestError{file, top.Line, err.Error()}
	}
	return doc, nil
}

// Line returns the line of what pointer (RFC 6901) names in the document, or
// of the deepest part of it that is there.
func (d document) Line(pointer string) int {
	n, line := d.root, d.root.Line
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		next := -1
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == token {
					line, next = n.Content[i].Line, i+1
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.Content) {
				line, next = n.Content[i].Line, i
			}
		}
		if next < 0 {
			return line
		}
		n = n.Content[next]
	}
	return line
}
