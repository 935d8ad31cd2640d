package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// readers is the size of the read pool. Readers do not wait for the writer nor
// for each other (WAL); more of them than cores buys nothing.
const readers = 8

// sqliteDB has one connection that writes and a pool that reads.
type sqliteDB struct {
	lock  *os.File
	read  *stmts
	write *sql.DB
	conn  chan *writer // holds the writer while nobody uses it
}

// SQLite opens the database file at path, which is created (mode 0600) if it
// is missing, and keeps every other process from opening it.
//
// A commit is answered when it is on the disk (synchronous FULL): a revocation
// that was answered must survive a power cut as it survives kill -9, and one
// fsync per write is a price that an embedded key manager can pay.
func SQLite(ctx context.Context, path string) (DB, error) {
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	d := &sqliteDB{lock: lock, conn: make(chan *writer, 1)}
	if err := d.open(ctx, path); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *sqliteDB) open(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file; here, before SQLite makes it with its own mode
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	if d.write, err = openHandle(path, 1, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"); err != nil {
		return err
	}
	read, err := openHandle(path, readers, "query_only(1)")
	if err != nil {
		return err
	}
	d.read = &stmts{prepare: read.PrepareContext, close: read.Close}
	w, err := newWriter(ctx, d.write) // the first connection makes it a WAL database
	if err != nil {
		return err
	}
	d.conn <- w
	return classify(read.PingContext(ctx))
}

func openHandle(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_dqs": {"0"}}
	for _, p := range append([]string{"busy_timeout(5000)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	h := sql.OpenDB(c)
	h.SetMaxOpenConns(conns)
	h.SetMaxIdleConns(conns)
	return h, nil
}

func (d *sqliteDB) QueryRow(ctx context.Context, query string, args ...any) Row {
	return d.read.queryRow(ctx, query, args)
}

func (d *sqliteDB) Query(ctx context.Context, each func(Row) error, query string, args ...any) error {
	return d.read.query(ctx, each, query, args)
}

func (d *sqliteDB) Exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = d.InTx(ctx, func(tx Tx) error {
		n, err = tx.Exec(ctx, query, args...)
		return err
	})
	return n, err
}

func (d *sqliteDB) Listen(ctx context.Context, _ func()) error {
	<-ctx.Done() // no other process writes
	return nil
}

func (d *sqliteDB) Migrate(ctx context.Context, migrations fs.FS) error {
	return d.withGoose(ctx, migrations, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

func (d *sqliteDB) Pending(ctx context.Context, migrations fs.FS) (names []string, err error) {
	err = d.withGoose(ctx, migrations, func(p *goose.Provider) error {
		names, err = pending(ctx, p)
		return err
	})
	return names, err
}

// withGoose lends the write connection to the migrations.
func (d *sqliteDB) withGoose(ctx context.Context, migrations fs.FS, fn func(*goose.Provider) error) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, d.write, migrations, goose.WithDisableGlobalRegistry(true), outOfOrder)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	w, err := d.take(ctx)
	if err != nil {
		return err
	}
	w.close() // its connection is the only one
	err = fn(p)
	next, openErr := newWriter(context.WithoutCancel(ctx), d.write)
	d.conn <- next
	if err != nil {
		return fmt.Errorf("migrations: %w", classify(err))
	}
	return openErr
}

func (d *sqliteDB) Ping(ctx context.Context) error {
	var one int
	return d.QueryRow(ctx, "SELECT 1").Scan(&one)
}

// Close waits for a running write, then lets go of the file. Nothing may be
// called after it.
func (d *sqliteDB) Close() error {
	var err error
	if d.read != nil {
		d.read.forget()
		err = d.read.close()
	}
	if d.write != nil {
		select {
		case w := <-d.conn:
			w.close()
		case <-time.After(DefaultTimeout):
		}
		err = errors.Join(err, d.write.Close())
	}
	return errors.Join(err, d.lock.Close())
}

// stmts runs statements that are prepared once. The program has a fixed set of
// them, so nothing is ever dropped.
type stmts struct {
	prepare func(context.Context, string) (*sql.Stmt, error)
	close   func() error
	byText  sync.Map // string → *sql.Stmt
}

func (s *stmts) get(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := s.byText.Load(query); ok {
		return st.(*sql.Stmt), nil
	}
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, classify(err)
	}
	if won, loaded := s.byText.LoadOrStore(query, st); loaded {
		_ = st.Close() //nolint:sqlclosecheck // the other is used and kept
		st = won.(*sql.Stmt)
	}
	return st, nil
}

// forget closes all statements.
func (s *stmts) forget() {
	s.byText.Range(func(text, st any) bool {
		s.byText.Delete(text)
		_ = st.(*sql.Stmt).Close()
		return true
	})
}

func (s *stmts) queryRow(ctx context.Context, query string, args []any) Row {
	st, err := s.get(ctx, query) //nolint:sqlclosecheck // kept for the next time
	if err != nil {
		return sqliteRow{err: err}
	}
	ctx, cancel := budget(ctx, DefaultTimeout)
	return sqliteRow{row: st.QueryRowContext(ctx, args...), cancel: cancel}
}

func (s *stmts) query(ctx context.Context, each func(Row) error, query string, args []any) error {
	st, err := s.get(ctx, query) //nolint:sqlclosecheck // kept for the next time
	if err != nil {
		return err
	}
	ctx, cancel := budget(ctx, DefaultTimeout)
	defer cancel()
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = rows.Close() }() // what matters is in rows.Err
	for rows.Next() {
		if err := each(sqliteRow{row: rows}); err != nil {
			return err
		}
	}
	return classify(rows.Err())
}

// sqliteRow classifies the errors of Scan, and ends the statement's budget.
type sqliteRow struct {
	row    Row
	cancel context.CancelFunc // nil within a result
	err    error
}

func (r sqliteRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	if r.cancel != nil {
		defer r.cancel()
	}
	return classify(r.row.Scan(dest...))
}
