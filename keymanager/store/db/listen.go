package db

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// listenQuiet is how long a silent connection is trusted before it is
	// asked whether it lives.
	listenQuiet  = 15 * time.Second
	reconnectMin = 100 * time.Millisecond
	reconnectMax = time.Second
)

// channel names what is notified: channels belong to the database, and it may
// hold other schemas like ours.
func (p *postgres) channel() string { return "tollgate_log_" + p.schema }

// Listen keeps one connection for notifications, and a new one when it is lost.
func (p *postgres) Listen(ctx context.Context, wake func()) error {
	wait := reconnectMin
	for {
		connected, err := p.listenOnce(ctx, wake)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to end, which is no failure
		}
		if connected {
			wait = reconnectMin
		}
		p.log.WarnContext(ctx, "lost the connection that listens for changes; they are found later, by looking", "retry_in", wait, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): //nolint:gosec // no secret: not all key managers at once
		case <-p.up: // others have found the database again
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, reconnectMax)
	}
}

func (p *postgres) listenOnce(ctx context.Context, wake func()) (connected bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig.Copy()) // within its ConnectTimeout
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx) // nothing is lost with it
	}()
	if err := p.listenCommand(ctx, conn); err != nil {
		return false, err
	}
	for {
		wake() // at first for what was missed
		if err := p.await(ctx, conn); err != nil {
			return true, err
		}
	}
}

func (p *postgres) listenCommand(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	_, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{p.channel()}.Sanitize())
	return err
}

// await returns at the next notification, or with an error when the connection
// no longer works.
func (p *postgres) await(ctx context.Context, conn *pgx.Conn) error {
	for {
		quiet, cancel := context.WithTimeout(ctx, listenQuiet)
		_, err := conn.WaitForNotification(quiet)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return err
		}
		alive, cancel := context.WithTimeout(ctx, p.timeout)
		err = conn.Ping(alive)
		cancel()
		if err != nil {
			return err
		}
	}
}
