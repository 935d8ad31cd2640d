package db

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

var placeholder = regexp.MustCompile(`\$[1-9][0-9]?`)

// inline returns a statement with its arguments in the place of $1, $2, ...,
// which it must not have within quotes. escape is that of a connection, which
// refuses where it could not be trusted.
func inline(query string, args []any, escape func(string) (string, error)) (string, error) {
	var failed error
	text := placeholder.ReplaceAllStringFunc(query, func(p string) string {
		n, err := strconv.Atoi(p[1:])
		if err != nil || n > len(args) {
			failed = fmt.Errorf("no argument for %s", p)
			return ""
		}
		literal, err := literalOf(reflect.ValueOf(args[n-1]), escape)
		if err != nil {
			failed = fmt.Errorf("argument %d: %w", n, err)
		}
		return literal
	})
	return text, failed
}

func literalOf(v reflect.Value, escape func(string) (string, error)) (string, error) {
	switch v.Kind() {
	case reflect.Invalid:
		return "NULL", nil
	case reflect.Pointer:
		if v.IsNil() {
			return "NULL", nil
		}
		return literalOf(v.Elem(), escape)
	case reflect.String:
		if strings.IndexByte(v.String(), 0) >= 0 { // it would end the message
			return "", ErrValue
		}
		text, err := escape(v.String())
		return "'" + text + "'", err
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "(" + strconv.FormatInt(v.Int(), 10) + ")", nil // a sign must not join what stands before it
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return `'\x` + hex.EncodeToString(v.Bytes()) + "'", nil
		}
	}
	return "", fmt.Errorf("a %s cannot be written into a statement", v.Type())
}
