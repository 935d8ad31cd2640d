package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// printTable writes one line for each object, under titles.
func printTable(w io.Writer, columns []column, items []json.RawMessage) error {
	tab := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	_, _ = fmt.Fprintln(tab, strings.Join(titles, "\t"))
	for _, raw := range items {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(lookUp(v, c.path))
		}
		_, _ = fmt.Fprintln(tab, strings.Join(cells, "\t"))
	}
	return tab.Flush()
}

// lookUp follows keys joined by dots; nil where one is missing.
func lookUp(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// cell writes a value on one line. What a person typed cannot break the table
// or the terminal.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case float64:
		return fmt.Sprintf("%.0f", v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = cell(e)
		}
		return strings.Join(parts, ",")
	default:
		text := fmt.Sprint(v)
		if text == "" {
			return "-"
		}
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, text)
	}
}

// printYAML writes objects as documents that "apply" takes: their identity and
// spec, without what only the server knows.
func printYAML(w io.Writer, items []json.RawMessage) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	for _, raw := range items {
		var root yaml.Node // JSON is YAML, and a Node keeps the order of keys
		if err := yaml.Unmarshal(raw, &root); err != nil {
			return err
		}
		if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
			return fmt.Errorf("the answer is not an object")
		}
		top := root.Content[0]
		var kept []*yaml.Node
		for i := 0; i+1 < len(top.Content); i += 2 {
			if slices.Contains(documentKeys, top.Content[i].Value) {
				kept = append(kept, top.Content[i], top.Content[i+1])
			}
		}
		top.Content = kept
		blockStyle(top)
		if err := enc.Encode(top); err != nil {
			return err
		}
	}
	return enc.Close()
}

// blockStyle writes a node as people do: no braces, quotes only where needed.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// printJSON writes objects as the server shows them, one object alone or a
// list.
func printJSON(w io.Writer, items []json.RawMessage, one bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if one && len(items) == 1 {
		return enc.Encode(items[0])
	}
	return enc.Encode(items)
}
