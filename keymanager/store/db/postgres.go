package db

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// PostgresOptions of a Postgres database.
type PostgresOptions struct {
	MaxConns int           // 16 if 0; listening takes one more
	Timeout  time.Duration // of statements without a deadline; DefaultTimeout if 0
	Logger   *slog.Logger  // told when the listening connection is lost; nil discards
	// Rank says how urgent what is done in a context is: above 0 a quarter of
	// the connections is kept for it, one of them (of two or more) for what is above
	// 1; below 0 it shares half of the others.
	// nil: all is 0.
	Rank func(context.Context) int
}

const (
	defaultMaxConns = 16
	minServer       = 140000 // server_version_num
	// lockTimeout and idleTimeout bound how long a transaction waits for a row,
	// and how long one whose client has stopped keeps others waiting: the head
	// of the log is a row that everybody needs.
	lockTimeout = "1s"
	idleTimeout = "2s"
	// answerTime is how much longer than the server the client waits: where the
	// server can end a statement, its connection lives on.
	answerTime = time.Second
	// spareTime is how long a connection that a busy moment needed stays when nobody
	// uses it: half an hour, as pgx has it, is a pool that only grows.
	spareTime = 2 * time.Minute
	// dialTimeout bounds one attempt to reach the server.
	dialTimeout = 3 * time.Second
	// Of migrations, which may have to wait for running transactions.
	migrateLockTimeout = "10s"
)

// postgres is a pool of native connections.
type postgres struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	schema  string // the first of search_path that exists
	log     *slog.Logger
	gate    *gate
	down    atomic.Bool   // the last statement that ended found no database
	up      chan struct{} // it is back
}

// Postgres opens the database at dsn (a URL or "key=value ..." text of libpq).
// Its search_path names the schema. Errors do not show the dsn.
func Postgres(ctx context.Context, dsn string, o PostgresOptions) (DB, error) {
	config, err := postgresConfig(dsn, &o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", classify(err))
	}
	p := &postgres{pool: pool, timeout: o.Timeout, log: o.Logger, gate: newGate(int(config.MaxConns), o.Rank), up: make(chan struct{}, 1)}
	if err := p.check(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return p, nil
}

func postgresConfig(dsn string, o *PostgresOptions) (*pgxpool.Config, error) {
	if o.MaxConns == 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil { // its text may hold the password
		return nil, errors.New("the address of the database cannot be read: want postgres://user@host:port/database or key=value pairs")
	}
	config.MaxConns = int32(min(o.MaxConns, 1<<15))
	if !strings.Contains(dsn, "pool_max_conn_idle_time") {
		config.MaxConnIdleTime = spareTime
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = DefaultTimeout
	}
	config.ConnConfig.DialFunc = (&net.Dialer{Timeout: dialTimeout}).DialContext
	config.BeforeClose = abandon
	params := config.ConnConfig.RuntimeParams
	for name, value := range map[string]string{
		"application_name":                    "tollgate",
		"statement_timeout":                   strconv.FormatInt(o.Timeout.Milliseconds(), 10),
		"lock_timeout":                        lockTimeout,
		"idle_in_transaction_session_timeout": idleTimeout,
		"synchronous_commit":                  "on",
	} {
		if _, ok := params[name]; !ok {
			params[name] = value
		}
	}
	if params["synchronous_commit"] == "off" {
		return nil, errors.New("synchronous_commit=off would lose tokens and revocations that were answered")
	}
	return config, nil
}

// abandon closes a connection whose request has been given up. The driver would
// wait a quarter of a minute for the last word of a server that does not
// answer, with the connection's place in the pool taken meanwhile.
func abandon(conn *pgx.Conn) {
	if conn.IsClosed() {
		_ = conn.PgConn().Conn().Close() // it is lost anyhow
	}
}

// check reads what the rest depends on, once.
func (p *postgres) check(ctx context.Context) error {
	ctx, cancel := budget(ctx, p.pool.Config().ConnConfig.ConnectTimeout+p.timeout)
	defer cancel()
	var version int
	var schema *string
	err := p.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_schema()`).Scan(&version, &schema)
	switch {
	case err != nil:
		return fmt.Errorf("open the database: %w", err)
	case version < minServer:
		return fmt.Errorf("the database server is too old: version %d.%d, want at least %d", version/10000, version%10000, minServer/10000)
	case schema == nil:
		return errors.New("no schema named in the search_path of the database connection exists")
	}
	p.schema = *schema
	return nil
}

// budget bounds a statement whose context has no deadline.
func (p *postgres) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	return budget(ctx, p.timeout+answerTime)
}

// noted classifies an error, and remembers whether the database answers. When
// it does again, the listening connection need not wait for its turn.
func (p *postgres) noted(err error) error {
	err = classify(err)
	switch {
	case errors.Is(err, ErrUnavailable):
		p.down.Store(true)
	case err == nil && p.down.Load() && p.down.CompareAndSwap(true, false):
		select {
		case p.up <- struct{}{}:
		default:
		}
	}
	if damaged(err) { // somebody has to look, since nothing here mends it
		p.log.Error("the database finds its data damaged: what stands there is not served; restore it from a backup", "error", err)
	}
	return err
}

func (p *postgres) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, cancel := p.budget(ctx)
	defer cancel()
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	tag, err := p.pool.Exec(ctx, query, args...)
	return tag.RowsAffected(), p.noted(err)
}

func (p *postgres) QueryRow(ctx context.Context, query string, args ...any) Row {
	ctx, cancel := p.budget(ctx)
	leave, err := p.gate.enter(ctx)
	if err != nil {
		cancel()
		return failedRow{err}
	}
	return postgresRow{p.pool.QueryRow(ctx, query, args...), func() { leave(); cancel() }, p.noted}
}

func (p *postgres) Query(ctx context.Context, each func(Row) error, query string, args ...any) error {
	ctx, cancel := p.budget(ctx)
	defer cancel()
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return p.noted(readRows(each)(p.pool.Query(ctx, query, args...)))
}

// failedRow is a row that could not be asked for.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// readRows calls each for every row, and closes them.
func readRows(each func(Row) error) func(pgx.Rows, error) error {
	return func(rows pgx.Rows, err error) error {
		if err != nil {
			return classify(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return classify(err)
			}
		}
		return classify(rows.Err())
	}
}

// postgresRow gives back what the statement has taken once it is read.
type postgresRow struct {
	row   pgx.Row
	end   func()
	noted func(error) error
}

func (r postgresRow) Scan(dest ...any) error {
	defer r.end()
	return r.noted(r.row.Scan(dest...))
}

func (p *postgres) Migrate(ctx context.Context, migrations fs.FS) error {
	return p.withGoose(migrations, func(g *goose.Provider) error {
		_, err := g.Up(ctx)
		return err
	})
}

func (p *postgres) Pending(ctx context.Context, migrations fs.FS) (names []string, err error) {
	err = p.withGoose(migrations, func(g *goose.Provider) error {
		names, err = pending(ctx, g)
		return err
	})
	return names, err
}

// withGoose lends a connection without time limits, and a lock that is taken
// in the schema for as long as goose works.
func (p *postgres) withGoose(migrations fs.FS, fn func(*goose.Provider) error) error {
	h := fnv.New64a()
	_, _ = h.Write([]byte("tollgate migrations of " + p.schema)) // never fails
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(int64(h.Sum64())), lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	config := p.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	config.RuntimeParams["lock_timeout"] = migrateLockTimeout
	handle := stdlib.OpenDB(*config)
	defer func() { _ = handle.Close() }() // what was committed is
	g, err := goose.NewProvider(goose.DialectPostgres, handle, migrations,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), outOfOrder)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if err := fn(g); err != nil {
		return fmt.Errorf("migrations: %w", classify(err))
	}
	return nil
}

func (p *postgres) Ping(ctx context.Context) error {
	ctx, cancel := p.budget(ctx)
	defer cancel()
	return classify(p.pool.Ping(ctx))
}

func (p *postgres) Close() error {
	p.pool.Close()
	return nil
}

// committed reports what a command tag says of COMMIT: a transaction that was
// aborted answers ROLLBACK, without an error.
func committed(tag pgconn.CommandTag) error {
	if tag.String() != "COMMIT" {
		return fmt.Errorf("%w: the transaction was rolled back", ErrUnavailable)
	}
	return nil
}
