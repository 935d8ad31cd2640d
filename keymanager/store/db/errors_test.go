package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestClassify(t *testing.T) {
	code := func(c string) error { return fmt.Errorf("exec: %w", &pgconn.PgError{Code: c, Message: "m"}) }
	classes := []error{ErrConflict, ErrReference, ErrValue, ErrUnavailable, ErrNoRows}
	for _, c := range []struct {
		err, want error
	}{
		{code("23505"), ErrConflict},
		{code("23503"), ErrReference},
		{code("23514"), ErrValue},
		{code("22021"), ErrValue},
		{code("40001"), ErrUnavailable},
		{code("40P01"), ErrUnavailable},
		{code("57014"), ErrUnavailable}, // statement_timeout
		{code("57P01"), ErrUnavailable}, // the server shuts down
		{code("55P03"), ErrUnavailable}, // lock_timeout
		{code("25P03"), ErrUnavailable}, // idle in transaction
		{code("25006"), ErrUnavailable}, // a standby
		{code("53300"), ErrUnavailable}, // too many connections
		{code("53100"), ErrUnavailable}, // disk full
		{code("08006"), ErrUnavailable},
		{code("58030"), ErrUnavailable}, // input/output error
		{code("28P01"), ErrUnavailable}, // the password was changed
		{code("42501"), ErrUnavailable}, // a right was taken away
		{code("XX000"), ErrUnavailable},
		{code("XX001"), nil}, // one row is damaged
		{code("42P01"), nil}, // no such table: our mistake
		{code("25P02"), nil}, // a statement after a failed one: our mistake
		{context.DeadlineExceeded, ErrUnavailable},
		{fmt.Errorf("read: %w", context.Canceled), ErrUnavailable},
		{io.ErrUnexpectedEOF, ErrUnavailable},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, ErrUnavailable},
		{fmt.Errorf("look up: %w", ErrNoRows), ErrNoRows},
		{errors.New("cannot scan"), nil},
		{nil, nil},
	} {
		got := classify(c.err)
		for _, class := range classes {
			if errors.Is(got, class) != (class == c.want) { //nolint:errorlint // which of the classes
				t.Errorf("%v: is %v: %t", c.err, class, errors.Is(got, class))
			}
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%v: the cause is lost: %v", c.err, got)
		}
	}
	if again := classify(classify(code("23505"))); again.Error() != classify(code("23505")).Error() {
		t.Errorf("classified twice: %v", again)
	}
}

// What does not pass by itself says what to do.
func TestAdvice(t *testing.T) {
	for code, want := range map[string]string{
		"25006": "target_session_attrs=read-write", "53100": "make room", "53300": "store.max_connections", "57014": "",
	} {
		err := &pgconn.PgError{Code: code, Message: "m"}
		got := classify(fmt.Errorf("exec: %w", err)).Error()
		if want == "" && !strings.HasSuffix(got, err.Error()) || !strings.Contains(got, want) {
			t.Errorf("%s: %s", code, got)
		}
	}
}

func TestRetry(t *testing.T) {
	lost := &pgconn.PgError{Code: "40001"}
	for _, c := range []struct {
		name     string
		failures int
		err      error
		runs     int
		want     error
	}{
		{"success", 0, nil, 1, nil},
		{"one lost race", 1, lost, 2, nil},
		{"lost every time", 99, lost, maxAttempts, ErrUnavailable},
		{"deadlock", 1, &pgconn.PgError{Code: "40P01"}, 2, nil},
		{"another error", 99, classify(&pgconn.PgError{Code: "23505"}), 1, ErrConflict},
		{"outcome unknown", 99, classify(io.ErrUnexpectedEOF), 1, ErrUnavailable},
	} {
		runs := 0
		err := withRetry(t.Context(), func() error {
			if runs++; runs <= c.failures {
				return c.err
			}
			return nil
		})
		if runs != c.runs || !errors.Is(err, c.want) {
			t.Errorf("%s: %d runs, %v; want %d, %v", c.name, runs, err, c.runs, c.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := withRetry(ended, func() error { return lost }); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
}
