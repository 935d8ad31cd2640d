package main

import (
	"reflect"
	"strings"
)

// eachSetting calls fn with every setting that is a plain value or a list of
// texts, by its key: section.key or section.part.key. A list of sections and a
// map are one setting.
func eachSetting(cfg *Config, fn func(key string, value reflect.Value)) {
	walkSettings("", reflect.ValueOf(cfg).Elem(), fn)
}

func walkSettings(prefix string, section reflect.Value, fn func(string, reflect.Value)) {
	for i := range section.NumField() {
		key, value := prefix+section.Type().Field(i).Tag.Get("yaml"), section.Field(i)
		if value.Kind() == reflect.Struct {
			walkSettings(key+".", value, fn)
			continue
		}
		fn(key, value)
	}
}

// variable is the name of the environment variable that sets a setting.
func variable(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// fromFile reports whether a setting was set in the configuration file.
func (p places) fromFile(key string) bool {
	_, ok := p[key]
	return ok && !p.fromEnvironment(key)
}

// fromEnvironment reports whether a variable set it.
func (p places) fromEnvironment(key string) bool { return strings.HasPrefix(p[key], envPrefix) }
