package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigSize bounds a configuration file; a real one is a few kilobytes.
const maxConfigSize = 1 << 20

// readConfig reads the file at path ("" = none: the defaults), lays the
// environment over it, reads the secrets that lie in files, and checks every
// value for a process with these roles. An error lists everything that is
// wrong, one thing a line.
func readConfig(path string, environ []string, r roles) (Config, error) {
	cfg, at, err := parseConfigFile(path, environ)
	if err != nil {
		return Config{}, err
	}
	if err := readSecrets(&cfg, at); err != nil {
		return Config{}, err
	}
	if err := checkConfig(&cfg, r, at); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

func parseConfigFile(path string, environ []string) (Config, places, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readSmallFile(path, maxConfigSize); err != nil {
			return Config{}, nil, fmt.Errorf("configuration: %w", err)
		}
	}
	return parseConfig(path, data, environ)
}

// readSecrets puts the content of each file that holds a secret in the place
// of its name.
func readSecrets(cfg *Config, at places) error {
	var problems []error
	for _, s := range secrets(cfg) {
		if *s.file == "" || *s.value != "" {
			continue
		}
		text, err := readSecretFile(*s.file)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s_file: %w", at.of(s.key+"_file"), s.key, err))
			continue
		}
		*s.value, *s.file = Secret(text), ""
	}
	return errors.Join(problems...)
}

// places remembers where each value was set, for messages: "section.key" →
// "file:line" or the name of the variable.
type places map[string]string

func (p places) of(key string) string {
	if at, ok := p[key]; ok {
		return at
	}
	return "default"
}

// parseConfig decodes data over the defaults and environ over that. It reads
// no files and checks no values, only their shape.
func parseConfig(name string, data []byte, environ []string) (Config, places, error) {
	cfg := defaultConfig()
	at := places{}
	if err := decodeStrict(name, data, &cfg); err != nil {
		return Config{}, nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err == nil && len(root.Content) == 1 {
		locate(name, "", root.Content[0], at)
	}
	if err := overlayEnvironment(&cfg, environ, at); err != nil {
		return Config{}, nil, err
	}
	return cfg, at, nil
}

// decodeStrict decodes the single document in data: an unknown or repeated
// key, a wrong type and a second document are errors with their line.
func decodeStrict(name string, data []byte, cfg *Config) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(cfg)
	if errors.Is(err, io.EOF) {
		return nil // empty, or comments alone
	}
	if err != nil {
		return configError(name, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s:%d: one document is allowed", name, second.Line)
	}
	return nil
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)
	yamlUnknown = regexp.MustCompile(`field (\S+) not found in type main\.(\w+)`)
	yamlInto    = regexp.MustCompile("cannot unmarshal !!(\\w+) (?:`.*` )?into (\\S+)")
)

// configError turns the decoder's error into lines of file:line: message,
// without names of Go types.
func configError(name string, err error) error {
	lines := []string{err.Error()}
	var typeErr *yaml.TypeError
	if errors.As(err, &typeErr) {
		lines = typeErr.Errors
	}
	for i, line := range lines {
		where := name
		if m := yamlLine.FindStringSubmatch(line); m != nil {
			where, line = name+":"+m[1], line[len(m[0]):]
		}
		if m := yamlUnknown.FindStringSubmatch(line); m != nil {
			line = fmt.Sprintf("unknown key %q; allowed: %s", m[1], strings.Join(knownKeys(m[2]), ", "))
		} else if m := yamlInto.FindStringSubmatch(line); m != nil {
			line = fmt.Sprintf("want %s, found %s", typeWords(m[2]), typeWords(m[1]))
		}
		lines[i] = where + ": " + strings.TrimPrefix(line, "yaml: ")
	}
	return errors.New(strings.Join(lines, "\n"))
}

func typeWords(name string) string {
	switch name {
	case "int":
		return "a whole number"
	case "str", "string", "main.Secret":
		return "a text"
	case "bool":
		return "true or false"
	case "seq", "[]string":
		return "a list"
	case "map":
		return "a section"
	case "float":
		return "a fraction"
	}
	if strings.HasPrefix(name, "main.") {
		return "a section"
	}
	return "another type (" + name + ")"
}

// knownKeys returns the keys of the section whose Go type is typeName.
func knownKeys(typeName string) []string {
	t := reflect.TypeFor[Config]()
	if found := sectionType(t, typeName); found != nil {
		t = found
	}
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("yaml"))
	}
	slices.Sort(keys)
	return keys
}

// sectionType finds the section whose Go type is name in t or below it; nil
// if there is none.
func sectionType(t reflect.Type, name string) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.Name() == name {
		if t.Name() != name {
			return nil
		}
		return t
	}
	for i := range t.NumField() {
		if found := sectionType(t.Field(i).Type, name); found != nil {
			return found
		}
	}
	return nil
}

// locate records the line of every key below n: section.key, and list[0].key
// for a list of sections.
func locate(name, key string, n *yaml.Node, at places) {
	switch n.Kind {
	case yaml.MappingNode:
		if key != "" {
			key += "."
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			below := key + n.Content[i].Value
			at[below] = fmt.Sprintf("%s:%d", name, n.Content[i].Line)
			locate(name, below, n.Content[i+1], at)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			below := fmt.Sprintf("%s[%d]", key, i)
			at[below] = fmt.Sprintf("%s:%d", name, c.Line)
			locate(name, below, c, at)
		}
	}
}

// readSmallFile reads a file of at most limit bytes.
func readSmallFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
