package admin

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"tollgate/keymanager"
)

// Problem is the body of every answer that is not a success (RFC 9457).
type Problem struct {
	Title  string         `json:"title" doc:"the HTTP status in words"`
	Status int            `json:"status" doc:"the HTTP status"`
	Detail string         `json:"detail,omitempty" doc:"what is wrong with this request"`
	Errors []FieldProblem `json:"errors,omitempty" doc:"one entry for each thing wrong with the body"`
	header http.Header
}

// FieldProblem is one thing wrong with a body.
type FieldProblem struct {
	Document *int   `json:"document,omitempty" doc:"apply: the index of the document"`
	Pointer  string `json:"pointer" doc:"JSON pointer (RFC 6901) into the body or document; empty: all of it"`
	Detail   string `json:"detail" doc:"what is wrong and what is allowed"`
}

var (
	problemType    = reflect.TypeFor[Problem]()
	errorModelType = reflect.TypeFor[huma.ErrorModel]()
)

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers that go with the answer.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType names the media type of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, header: http.Header{}}
}

// unavailable says that nothing is known: the client may try again.
func unavailable() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "storage cannot be reached at the moment; a write may or may not have happened")
	p.header.Set("Retry-After", "1")
	return p
}

// statusOf is the HTTP status of each kind of error. Internal errors have
// none: their text is not for outside.
var statusOf = map[keymanager.Kind]int{
	keymanager.KindInvalid:      http.StatusUnprocessableEntity,
	keymanager.KindNotFound:     http.StatusNotFound,
	keymanager.KindConflict:     http.StatusConflict,
	keymanager.KindPrecondition: http.StatusPreconditionFailed,
	keymanager.KindForbidden:    http.StatusForbidden,
}

// problemOf turns an error of our own into a Problem.
func problemOf(e *keymanager.Error) *Problem {
	if e.Kind == keymanager.KindUnavailable {
		return unavailable()
	}
	status, known := statusOf[e.Kind]
	if !known {
		return newProblem(http.StatusInternalServerError, "internal error")
	}
	p := newProblem(status, e.Detail)
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, FieldProblem{Pointer: f.Path, Detail: f.Detail})
	}
	return p
}

// toProblem gives the errors that huma finds in parameters and bodies the same
// form, without the values it found them in.
func toProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(m.Status, m.Detail)
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		detail := e.Message
		if e.Location != "" {
			detail = e.Location + ": " + detail
		}
		p.Errors = append(p.Errors, FieldProblem{Detail: detail})
	}
	if m.Status == http.StatusInternalServerError {
		p.Detail, p.Errors = "internal error", nil
	}
	return p, nil
}
