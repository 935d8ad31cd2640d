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
	eachSetting(cfg, func(key string, value reflect.Value) {
		name := variable(key)
		text, ok := given[name]
		if !ok {
			return
		}
		delete(given, name)
		if err := setField(value, text); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
		at[key] = name
	})
	settleSecrets(cfg, at)
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

// settleSecrets lets a secret from the environment replace the file that the
// configuration names for it, and the other way round.
func settleSecrets(cfg *Config, at places) {
	for _, s := range secrets(cfg) {
		value, file := at.fromEnvironment(s.key), at.fromEnvironment(s.key+"_file")
		switch {
		case value && !file:
			*s.file = ""
		case file && !value:
			*s.value = ""
		}
	}
}

// secret is a setting that can lie in a file of its own.
type secret struct {
	key   string
	value *Secret
	file  *string
}

// secrets are the settings of type Secret that have a companion with _file
// behind its key.
func secrets(cfg *Config) []secret {
	files, found := map[string]*string{}, []secret{}
	eachSetting(cfg, func(key string, v reflect.Value) {
		switch p := v.Addr().Interface().(type) {
		case *string:
			files[key] = p
		case *Secret:
			found = append(found, secret{key: key, value: p})
		}
	})
	for i := range found {
		found[i].file = files[found[i].key+"_file"]
	}
	return slices.DeleteFunc(found, func(s secret) bool { return s.file == nil })
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
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			return errors.New("a list of sections can be set in the file alone")
		}
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return errors.New("can be set in the file alone")
	}
	return nil
}
