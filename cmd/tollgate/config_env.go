package main

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "TOLLGATE_"

// kubernetesVariable matches what Kubernetes sets for each Service: a Service
// named tollgate must not look like a setting.
var kubernetesVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// overlayEnvironment sets each value whose variable is set. A variable that
// names nothing is an error, as an unknown key is.
func overlayEnvironment(cfg *Config, environ []string, at places) error {
	given := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, envPrefix) {
			given[name] = value
		}
	}
	var problems []string
	sections := reflect.ValueOf(cfg).Elem()
	for i := range sections.NumField() {
		section := sections.Type().Field(i).Tag.Get("yaml")
		for j := range sections.Field(i).NumField() {
			field := sections.Field(i).Type().Field(j)
			key := field.Tag.Get("yaml")
			name := envPrefix + strings.ToUpper(section+"_"+key)
			value, ok := given[name]
			if !ok {
				continue
			}
			delete(given, name)
			if err := setField(sections.Field(i).Field(j), value); err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", name, err))
			}
			at[section+"."+key] = name
		}
		settlePairs(sections.Field(i), section, at)
	}
	for name := range given {
		if !kubernetesVariable.MatchString(name) {
			problems = append(problems, name+": no setting has this name (TOLLGATE_SECTION_KEY)")
		}
	}
	if problems == nil {
		return nil
	}
	slices.Sort(problems)
	return errors.New(strings.Join(problems, "\n"))
}

// settlePairs lets a secret from the environment replace the file that the
// configuration names for it, and the other way round.
func settlePairs(section reflect.Value, name string, at places) {
	fields := map[string]reflect.Value{}
	for i := range section.NumField() {
		fields[section.Type().Field(i).Tag.Get("yaml")] = section.Field(i)
	}
	for key, field := range fields {
		file, ok := fields[key+"_file"]
		if field.Type() != reflect.TypeFor[Secret]() || !ok {
			continue
		}
		fromEnv := func(key string) bool { return strings.HasPrefix(at[name+"."+key], envPrefix) }
		switch {
		case fromEnv(key) && !fromEnv(key+"_file"):
			file.SetZero()
		case fromEnv(key+"_file") && !fromEnv(key):
			field.SetZero()
		}
	}
}

// setField parses text into a field by its type. A list is comma-separated.
func setField(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case reflect.Slice:
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("a value of type %s cannot be set", v.Type())
	}
	return nil
}
