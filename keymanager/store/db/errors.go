package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// classify says what an error of a driver means, keeping it as the cause.
func classify(err error) error {
	if err == nil || errors.Is(err, ErrNoRows) {
		return err
	}
	if class := classOf(err); class != nil && !errors.Is(err, class) {
		return fmt.Errorf("%w: %w%s", class, err, advice(err))
	}
	return err
}

// advice is what to do about an error that does not pass by itself; "" if it
// may. It goes behind the error.
func advice(err error) string {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg):
		switch pg.Code {
		case "25006": // read_only_sql_transaction
			return "; the DSN has to lead to the primary (target_session_attrs=read-write), and default_transaction_read_only must be off there"
		case "53100": // disk_full
			return "; make room on the disk of the database"
		case "53300": // too_many_connections
			return "; max_connections of the server must be above the sum of store.max_connections + 2 of all key managers"
		}
	case errors.As(err, &lite):
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return "; make room on the disk of the state folder"
		case sqlite3.SQLITE_READONLY:
			return "; the state folder and the database in it must be writable for this process"
		}
	}
	return ""
}

func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w%s", ErrUnavailable, err, advice(err))
}

func classOf(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return postgresClass(pg.Code)
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return sqliteClass(lite.Code())
	}
	var netErr net.Error
	var connectErr *pgconn.ConnectError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn), errors.Is(err, pgconn.ErrConnClosed),
		errors.As(err, &netErr), errors.As(err, &connectErr),
		pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return ErrUnavailable
	}
	return nil
}

// postgresClass reads a SQLSTATE (PostgreSQL, appendix A).
func postgresClass(code string) error {
	switch code {
	case "23505": // unique_violation
		return ErrConflict
	case "23503": // foreign_key_violation
		return ErrReference
	case "23502", "23514", "22021", "22P05", "22001": // not null, check, bad text, too long
		return ErrValue
	case "57014", "55P03", "25P03", "25006", // cancelled, lock timeout, idle in transaction, read only
		"40001", "40P01", "55006", // serialization, deadlock, object in use
		"42501", "26000", "XX000": // no privilege, statement gone (a pooler), internal error: whatever is asked
		return ErrUnavailable
	}
	for _, class := range []string{"08", "28", "53", "57", "58"} { // connection, authorization, resources, operator, system
		if strings.HasPrefix(code, class) {
			return ErrUnavailable
		}
	}
	return nil
}

// damaged reports whether the server found its own data spoilt: data_corrupted
// or index_corrupted (PostgreSQL, appendix A). It is no fault that passes.
func damaged(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "XX001" || pg.Code == "XX002")
}

// sqliteClass reads an extended result code (sqlite.org/rescode.html).
func sqliteClass(code int) error {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return ErrConflict
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return ErrReference
	case sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_CONSTRAINT_DATATYPE:
		return ErrValue
	}
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_READONLY:
		return ErrUnavailable
	}
	return nil
}

// retryable reports whether the transaction lost a race and was rolled back:
// the same again may succeed.
func retryable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	return false
}
