package keymanager

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the class of an Error. The zero value is internal: its text is not
// shown to anyone outside.
type Kind int

// The kinds of error. They survive the network; anything else is internal.
const (
	KindInternal     Kind = iota
	KindInvalid           // the input is wrong: Fields say where
	KindNotFound          // no such object
	KindConflict          // a name or key is taken, or the state does not allow it
	KindPrecondition      // If-Match does not match: somebody else changed it
	KindUnavailable       // storage or a peer cannot be reached: try again
	KindForbidden         // the caller lacks the right
)

// FieldError is one thing wrong with an input. Path is a JSON pointer
// (RFC 6901) into it; Detail says what is allowed.
type FieldError struct {
	Path   string
	Detail string
}

// Error is the one error type that crosses package and process borders.
type Error struct {
	Kind   Kind
	Detail string // for people; no secret
	Fields []FieldError
	Err    error // the cause; not shown outside
}

// Error joins the detail, the fields and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: %s", f.Path, f.Detail)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of kind k without a cause.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// Invalid returns an Error of KindInvalid for fields, or nil when there are
// none.
func Invalid(detail string, fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{Kind: KindInvalid, Detail: detail, Fields: fields}
}

// KindOf returns the kind of err, KindInternal for one that is not an Error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// IsNotFound reports whether err says that the object does not exist. Any
// other error does not say so: unknown is not "no".
func IsNotFound(err error) bool {
	return err != nil && KindOf(err) == KindNotFound
}
