package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"tollgate/keymanager"
)

// maxDepth is how deep the values of a body may be nested.
const maxDepth = 32

// document is a request body of the schema S, kept as it came: reading it is
// the handler's, with an answer that names every fault by JSON pointer.
type document[S any] struct{ raw []byte }

// Schema shows S in the OpenAPI document.
func (*document[S]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[S](), true, "")
}

func (d *document[S]) keep(data []byte) { d.raw = bytes.Clone(data) }

// read decodes the body. What is not JSON is 400; what does not fit S is a
// list of problems.
func (d *document[S]) read() (*S, error) {
	if len(d.raw) == 0 { // an operation that needs a body has refused this
		return new(S), nil
	}
	v, problems, err := parseJSON(d.raw)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, err.Error())
	}
	var s S
	decodeInto(&s, v, "", &problems)
	return &s, keymanager.Invalid("the body does not fit", problems)
}

// jsonFormat reads nothing itself: see document.
func jsonFormat() huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		Unmarshal: func(data []byte, v any) error {
			d, ok := v.(interface{ keep([]byte) })
			if !ok {
				return fmt.Errorf("no body of type %T is read", v)
			}
			d.keep(data)
			return nil
		},
	}
}

// parseJSON reads one JSON value into nil, bool, string, json.Number, []any
// and map[string]any. Names that stand twice in an object are problems.
func parseJSON(data []byte) (any, []keymanager.FieldError, error) {
	if !utf8.Valid(data) {
		return nil, nil, errors.New("the body is not UTF-8")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	v, err := p.value("", 0)
	if err != nil {
		return nil, nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the body holds more than one JSON value")
	}
	return v, p.problems, nil
}

type parser struct {
	dec      *json.Decoder
	problems []keymanager.FieldError
}

func (p *parser) value(at string, depth int) (any, error) {
	t, err := p.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	if delim == '[' {
		return p.array(at, depth)
	}
	return p.object(at, depth)
}

func (p *parser) array(at string, depth int) (any, error) {
	list := []any{}
	for p.dec.More() {
		v, err := p.value(child(at, len(list)), depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := p.dec.Token() // ]
	return list, err
}

func (p *parser) object(at string, depth int) (any, error) {
	m := map[string]any{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // of an object's member: always one
		here := child(at, name)
		v, err := p.value(here, depth+1)
		if err != nil {
			return nil, err
		}
		if _, twice := m[name]; twice {
			p.problems = append(p.problems, keymanager.FieldError{Path: here, Detail: "stands more than once"})
		}
		m[name] = v
	}
	_, err := p.dec.Token() // }
	return m, err
}

// child returns the pointer of a member or an element below at (RFC 6901
// section 3).
func child(at string, key any) string {
	s := strings.ReplaceAll(fmt.Sprint(key), "~", "~0")
	return at + "/" + strings.ReplaceAll(s, "/", "~1")
}
