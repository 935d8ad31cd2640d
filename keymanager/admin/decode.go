package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tollgate/keymanager"
)

// A fromJSON reads itself from a parsed value that may have several forms.
type fromJSON interface {
	fromJSON(v any, at string, problems *[]keymanager.FieldError)
}

// decodeInto fills into, a pointer, from a parsed value. Names must be spelt
// as the schema spells them, no name may be unknown, and every value must be
// of its type; null is as if the name were not there.
func decodeInto(into, v any, at string, problems *[]keymanager.FieldError) {
	d := decoder{problems: problems}
	d.value(reflect.ValueOf(into).Elem(), v, at)
}

type decoder struct{ problems *[]keymanager.FieldError }

func (d decoder) wrong(at, format string, args ...any) {
	*d.problems = append(*d.problems, keymanager.FieldError{Path: at, Detail: fmt.Sprintf(format, args...)})
}

func (d decoder) value(dst reflect.Value, v any, at string) {
	if custom, ok := dst.Addr().Interface().(fromJSON); ok {
		custom.fromJSON(v, at, d.problems)
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		d.value(dst.Elem(), v, at)
	case reflect.Interface:
		dst.Set(reflect.ValueOf(v))
	case reflect.String:
		if s, ok := v.(string); ok {
			dst.SetString(s)
			return
		}
		d.wrong(at, "must be a text, not %s", typeName(v))
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			dst.SetBool(b)
			return
		}
		d.wrong(at, "must be true or false, not %s", typeName(v))
	case reflect.Int64, reflect.Int:
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil {
			d.wrong(at, "must be a whole number, not %s", typeName(v))
			return
		}
		dst.SetInt(i)
	case reflect.Slice:
		d.slice(dst, v, at)
	case reflect.Map:
		d.texts(dst, v, at)
	case reflect.Struct:
		d.object(dst, v, at)
	default:
		panic(fmt.Sprintf("admin: no decoding of %s", dst.Type())) // a mistake in a schema; every schema is tested
	}
}

func (d decoder) slice(dst reflect.Value, v any, at string) {
	list, ok := v.([]any)
	if !ok {
		d.wrong(at, "must be a list, not %s", typeName(v))
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(list), len(list))
	for i, e := range list {
		d.value(out.Index(i), e, child(at, i))
	}
	if len(list) > 0 {
		dst.Set(out)
	}
}

// texts reads a map of texts.
func (d decoder) texts(dst reflect.Value, v any, at string) {
	m, ok := v.(map[string]any)
	if !ok {
		d.wrong(at, "must be an object, not %s", typeName(v))
		return
	}
	out := reflect.MakeMapWithSize(dst.Type(), len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		e := reflect.New(dst.Type().Elem()).Elem()
		d.value(e, m[name], child(at, name))
		out.SetMapIndex(reflect.ValueOf(name), e)
	}
	if len(m) > 0 {
		dst.Set(out)
	}
}

func (d decoder) object(dst reflect.Value, v any, at string) {
	m, ok := v.(map[string]any)
	if !ok {
		d.wrong(at, "must be an object, not %s", typeName(v))
		return
	}
	known := map[string]int{}
	for i := range dst.NumField() {
		name, _, _ := strings.Cut(dst.Type().Field(i).Tag.Get("json"), ",")
		known[name] = i
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		here := child(at, name)
		i, ok := known[name]
		switch {
		case !ok:
			d.wrong(here, "is not known; known are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case m[name] == nil:
		default:
			d.value(dst.Field(i), m[name], here)
		}
	}
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a text"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// treeOf returns v as parseJSON would read it.
func treeOf(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	tree, _, err := parseJSON(data)
	return tree, err
}
