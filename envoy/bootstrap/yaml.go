package bootstrap

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML writes a JSON document as people read it: in blocks, in the order of its
// keys, with a comment above each value that comments names by its path
// ("overload_manager.actions"; list elements are not named). "" is the document
// itself. Texts stay in quotes: what "no" and "1.0" mean differs among readers.
func YAML(document []byte, comments map[string]string) ([]byte, error) {
	var root yaml.Node // JSON is YAML, and a Node keeps the order
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("not a JSON object")
	}
	style(root.Content[0], "", comments)
	var out bytes.Buffer
	for line := range strings.Lines(comments[""]) {
		out.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// Comments explain the parts of a rendered bootstrap, for YAML.
func Comments() map[string]string {
	return map[string]string{
		"node":                      "Who this Envoy is. Over mTLS both must be those of its certificate.",
		"admin":                     "Only this machine may ask. What is not listed below answers 403.",
		"dynamic_resources":         "Listeners, routes and API clusters come from xds. 0s: Envoy waits for them, and is not ready before.",
		"layered_runtime":           "No layer that can be changed from outside.",
		"overload_manager":          "Where Envoy sheds load: at 85 to 98 % of the heap limit, and at the limit of connections.",
		"stats_config":              "Statistics of single APIs are left out: with thousands of APIs each scrape would stop Envoy for seconds.",
		"typed_dns_resolver_config": "For the names of back ends too: one that is not answered delays every change.",
		"watchdogs":                 "The first push of very many APIs takes the main thread for seconds.",
		"static_resources":          "Whom Envoy must reach before xds has said anything. No push can remove these.",
	}
}

var plainKey = regexp.MustCompile(`^[a-z][a-z0-9_.]*[a-z0-9]$`)

// words that some readers of YAML take for a boolean or null.
var words = map[string]bool{"no": true, "on": true, "off": true, "yes": true, "true": true, "false": true, "null": true}

func style(n *yaml.Node, at string, comments map[string]string) {
	switch n.Kind {
	case yaml.MappingNode:
		n.Style = 0
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			path := strings.TrimPrefix(at+"."+key.Value, ".")
			if plainKey.MatchString(key.Value) && !words[key.Value] {
				key.Style = 0
			}
			key.HeadComment = comments[path]
			style(value, path, comments)
		}
		if short(n) && at != "" {
			n.Style = yaml.FlowStyle
		}
	case yaml.SequenceNode:
		n.Style = 0
		for _, e := range n.Content {
			style(e, at, comments)
		}
	}
}

// short reports whether an object reads well on one line.
func short(n *yaml.Node) bool {
	length := 0
	for _, e := range n.Content {
		if e.Kind != yaml.ScalarNode || e.HeadComment != "" {
			return false
		}
		length += len(e.Value) + 4
	}
	return length < 70
}
