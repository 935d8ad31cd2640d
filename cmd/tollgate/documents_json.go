package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object that keeps the order of its keys.
type object struct {
	keys   []string
	values []any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		k, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(o.values[i])
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// Limits of one document: what aliases can blow up to, and how deep they nest.
const (
	maxDocumentNodes = 1 << 20
	maxDocumentDepth = 64
)

// converter turns YAML nodes into what encoding/json writes.
type converter struct {
	file  string
	nodes int
	depth int
}

// value converts n. A key that is there twice is an error.
func (c *converter) value(n *yaml.Node) (any, error) {
	c.nodes++
	c.depth++
	defer func() { c.depth-- }()
	if c.nodes > maxDocumentNodes || c.depth > maxDocumentDepth {
		return nil, manifestError{c.file, n.Line, "the document is too large or too deep (an alias counts each time)"}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := c.value(item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return c.mapping(n)
	case yaml.ScalarNode:
		return c.scalar(n)
	default:
		return nil, manifestError{c.file, n.Line, "this kind of YAML node is not allowed here"}
	}
}

func (c *converter) mapping(n *yaml.Node) (any, error) {
	out := object{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return nil, manifestError{c.file, key.Line, "a key must be a plain text"}
		}
		if first, twice := seen[key.Value]; twice {
			return nil, manifestError{c.file, key.Line, fmt.Sprintf("key %q is already set in line %d", key.Value, first)}
		}
		seen[key.Value] = key.Line
		v, err := c.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		out.keys, out.values = append(out.keys, key.Value), append(out.values, v)
	}
	return out, nil
}

// scalar keeps a number as it is written, and takes for a text what is
// neither a number nor true, false or null (a date, too, is a text in JSON).
func (c *converter) scalar(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool", "!!int", "!!float":
		var v any
		if n.Tag != "!!bool" && json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		if err := n.Decode(&v); err != nil {
			return nil, manifestError{c.file, n.Line, fmt.Sprintf("%q: %v", n.Value, err)}
		}
		if _, err := json.Marshal(v); err != nil { // .inf and .nan
			return nil, manifestError{c.file, n.Line, fmt.Sprintf("%q has no place in JSON", n.Value)}
		}
		return v, nil
	default:
		return nil, manifestError{c.file, n.Line, fmt.Sprintf("the tag %s is not allowed", n.Tag)}
	}
}
