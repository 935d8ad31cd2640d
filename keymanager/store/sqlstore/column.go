package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tollgate/keymanager"
)

// How Go values lie in columns. Both drivers know the Scanner of
// database/sql.

// millis reads a time from Unix milliseconds; the zero time is null.
type millis struct{ t *time.Time }

func (m millis) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*m.t = time.Time{}
	case int64:
		*m.t = time.UnixMilli(v).UTC()
	default:
		return fmt.Errorf("time: want an integer, got %T", src)
	}
	return nil
}

// ms is the column value of a time that is never null.
func ms(t time.Time) int64 { return t.UnixMilli() }

// nullMS is the column value of a time that may be zero.
func nullMS(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	v := t.UnixMilli()
	return &v
}

// words reads a list that is one text, separated by spaces.
type words[T ~string] struct{ list *[]T }

func (w words[T]) Scan(src any) error {
	var text string
	switch v := src.(type) {
	case nil:
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("list: want text, got %T", src)
	}
	*w.list = nil
	for f := range strings.FieldsSeq(text) {
		*w.list = append(*w.list, T(f))
	}
	return nil
}

func joined[T ~string](list []T) string {
	var b strings.Builder
	for i, w := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// document reads a JSON column into v.
type document struct{ v any }

func (d document) Scan(src any) error {
	switch v := src.(type) {
	case []byte:
		return json.Unmarshal(v, d.v)
	case string:
		return json.Unmarshal([]byte(v), d.v)
	default:
		return fmt.Errorf("document: want JSON, got %T", src)
	}
}

// lenient keeps the error of a column, so that the rows after it can be read.
type lenient struct {
	to  sql.Scanner
	err *error
}

func (l lenient) Scan(src any) error {
	if err := l.to.Scan(src); err != nil && *l.err == nil {
		*l.err = err
	}
	return nil
}

// encode is the column value of a JSON document.
func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// digest reads a digest, which is the byte of its pepper and the sum.
type digest struct{ d *keymanager.Digest }

func (d digest) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != 1+len(d.d.Sum) {
		return fmt.Errorf("digest: want %d bytes, got %T", 1+len(d.d.Sum), src)
	}
	d.d.PepperID = b[0]
	copy(d.d.Sum[:], b[1:])
	return nil
}

func digestBytes(d keymanager.Digest) []byte {
	return append([]byte{d.PepperID}, d.Sum[:]...)
}

// tokenID reads a token id; null is the zero id.
type tokenID struct{ id *keymanager.TokenID }

func (t tokenID) Scan(src any) error {
	*t.id = keymanager.TokenID{}
	switch b := src.(type) {
	case nil:
		return nil
	case []byte:
		if len(b) == len(t.id) {
			copy(t.id[:], b)
			return nil
		}
	}
	return fmt.Errorf("token id: want %d bytes, got %T", len(t.id), src)
}

// optional reads a text that may be null, which is the empty text.
type optional[T ~string] struct{ s *T }

func (o optional[T]) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*o.s = ""
	case string:
		*o.s = T(v)
	case []byte:
		*o.s = T(v)
	default:
		return fmt.Errorf("want text, got %T", src)
	}
	return nil
}

// nullable is the column value of a text that may be empty.
func nullable[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	v := string(s)
	return &v
}

// duration reads milliseconds.
type duration struct{ d *time.Duration }

func (d duration) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("duration: want an integer, got %T", src)
	}
	*d.d = time.Duration(v) * time.Millisecond
	return nil
}

// nullDigest reads a digest; null leaves it as it is.
type nullDigest struct{ d *keymanager.Digest }

func (n nullDigest) Scan(src any) error {
	if src == nil {
		return nil
	}
	return digest(n).Scan(src)
}

// optionalDocument reads a JSON column; null leaves v as it is.
type optionalDocument struct{ v any }

func (o optionalDocument) Scan(src any) error {
	if src == nil {
		return nil
	}
	return document(o).Scan(src)
}

// attributes reads a JSON object of texts; most are empty, and cost nothing.
type attributes struct{ m *map[string]string }

func (a attributes) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		return nil
	case string:
		if v == "null" || v == "{}" {
			return nil
		}
	case []byte:
		if string(v) == "null" || string(v) == "{}" {
			return nil
		}
	}
	return document{a.m}.Scan(src)
}
