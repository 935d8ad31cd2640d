package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a document, beside its size.
const (
	maxDepth = 200
	maxNodes = 500_000 // YAML aliases counted where they are used
)

// parse reads a document into maps, lists and scalars. A name that stands twice
// in one map is refused: it would be anyone's guess which of them holds.
func parse(ctx context.Context, document []byte) (map[string]any, error) {
	if !utf8.Valid(document) {
		return nil, invalid("", "the document is not UTF-8")
	}
	document = bytes.TrimPrefix(document, []byte("\ufeff"))
	text, read := bytes.TrimSpace(document), parseYAML
	b := &budget{ctx: ctx}
	if bytes.HasPrefix(text, []byte("{")) {
		read = parseJSON
	}
	tree, err := read(b, text)
	if err != nil {
		return nil, invalid("", "%v", err)
	}
	root, ok := tree.(map[string]any)
	if !ok {
		return nil, invalid("", "the document is not an object in JSON or YAML")
	}
	return root, nil
}

// budget bounds the work on one document.
type budget struct {
	ctx   context.Context
	nodes int
}

func (b *budget) spend(depth int) error {
	b.nodes++
	if b.nodes%1024 == 0 && b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	if b.nodes > maxNodes {
		return fmt.Errorf("the document has more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return fmt.Errorf("the document is nested more than %d deep", maxDepth)
	}
	return nil
}

func parseJSON(b *budget, text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := b.json(d, 0)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return v, nil
		}
		err = errors.New("something follows the JSON document")
	}
	line := 1 + bytes.Count(text[:min(int(d.InputOffset()), len(text))], []byte("\n"))
	return nil, fmt.Errorf("line %d: %w", line, err)
}

func (b *budget) json(d *json.Decoder, depth int) (any, error) {
	if err := b.spend(depth); err != nil {
		return nil, err
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name := key.(string) // More and Token let nothing else stand here
			if _, twice := m[name]; twice {
				return nil, fmt.Errorf("%.100q stands twice", name)
			}
			if m[name], err = b.json(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return m, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := b.json(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	default:
		return token, nil
	}
}

func parseYAML(b *budget, text []byte) (any, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	if err := d.Decode(&root); err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	return b.yaml(&root, 0, "")
}

// yaml turns a node into what the same JSON would be. key is the name of the
// member that it is.
func (b *budget) yaml(n *yaml.Node, depth int, key string) (any, error) {
	if err := b.spend(depth); err != nil { // also what ends an alias of itself
		return nil, fmt.Errorf("line %d: %w", n.Line, err)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return b.yaml(n.Content[0], depth+1, "")
	case yaml.AliasNode:
		return b.yaml(n.Alias, depth+1, key)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := b.yaml(c, depth+1, "")
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		m := map[string]any{}
		return m, b.mapping(n, depth, m)
	case yaml.ScalarNode:
		return scalar(n, key)
	default:
		return nil, fmt.Errorf("line %d: a YAML node of an unknown kind", n.Line)
	}
}

func (b *budget) mapping(n *yaml.Node, depth int, m map[string]any) error {
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: the name of a member is not a scalar", name.Line)
		}
		if name.Tag == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if _, twice := m[name.Value]; twice {
			return fmt.Errorf("line %d: %.100q stands twice", name.Line, name.Value)
		}
		v, err := b.yaml(value, depth+1, name.Value)
		if err != nil {
			return err
		}
		m[name.Value] = v
	}
	for _, merge := range merges { // what stands there itself wins, then what comes first
		v, err := b.yaml(merge, depth+1, "")
		if err != nil {
			return err
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			from, ok := v.(map[string]any)
			if !ok {
				return fmt.Errorf("line %d: \"<<\" merges something that is not a map", merge.Line)
			}
			for name, v := range from {
				if _, have := m[name]; !have {
					m[name] = v
				}
			}
		}
	}
	return nil
}

// scalar reads a scalar as JSON knows it. Dates stay text, and so do versions,
// which people write without quotes: 1.10 is not the number 1.1.
func scalar(n *yaml.Node, key string) (any, error) {
	switch key {
	case "version", "openapi", "swagger":
		return n.Value, nil
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var v bool
		err := n.Decode(&v)
		return v, err
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		var v float64 // 0x10, 1_000, .5
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		if math.IsInf(v, 0) || math.IsNaN(v) { // JSON has no such number
			return n.Value, nil
		}
		return v, nil
	case "!!binary":
		return nil, fmt.Errorf("line %d: binary data", n.Line)
	default:
		return strings.ToValidUTF8(n.Value, "\uFFFD"), nil
	}
}
