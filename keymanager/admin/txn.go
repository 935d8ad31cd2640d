package admin

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// txn is one write in progress: what it reads, writes and leaves in the audit
// trail belongs to one transaction.
type txn struct {
	*server
	caller Caller
	st     store.Store // of the transaction
	look   *lookup
	now    time.Time
}

// confirmTime is how long the answer to a write waits for the gateways, whichever
// key manager they report to.
const confirmTime = 250 * time.Millisecond

// maxRaces is how often a write that asked for no revision starts again when
// another one came in between. Each time somebody else has won, so that of n
// writers the last one loses n-1 times.
const maxRaces = 100

// write runs fn in one transaction and waits a moment for the gateways. fn may
// be run again, so all it leaves behind it must set anew.
func (s *server) write(ctx context.Context, cond Conditions, fn func(tx *txn) error) error {
	pos, err := s.commit(ctx, cond, fn)
	if err != nil {
		return err
	}
	s.confirm(ctx, pos, confirmTime)
	return nil
}

func (s *server) commit(ctx context.Context, cond Conditions, fn func(tx *txn) error) (keymanager.Position, error) {
	for race := 0; ; race++ {
		pos, err := s.Store.InTx(ctx, func(st store.Store) error {
			return fn(&txn{
				server: s, caller: requestOf(ctx).caller, st: st,
				look: newLookup(st), now: s.Now().UTC().Truncate(time.Millisecond),
			})
		})
		if keymanager.KindOf(err) != keymanager.KindPrecondition || cond.given() {
			return pos, err
		}
		if race == maxRaces { // who set no condition cannot have failed one
			return pos, keymanager.Errorf(keymanager.KindUnavailable, "too many writes of the same object at once; try again")
		}
	}
}

// confirm reports whether the gateways use what the log says
// up to pos.
func (s *server) confirm(ctx context.Context, pos keymanager.Position, limit time.Duration) bool {
	if s.Confirm == nil || pos == (keymanager.Position{}) {
		return s.Confirm != nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.Confirm(ctx, pos); err != nil {
		s.Logger.DebugContext(ctx, "gateways have not confirmed in time", "position", pos.String(), "error", err)
		return false
	}
	return true
}

// audit leaves a row of the trail. before and after are specs, or nil.
func (tx *txn) audit(ctx context.Context, org keymanager.OrganizationID, action, kind, name string, before, after any) error {
	e := &store.AuditEntry{
		At: tx.now, Actor: string(tx.caller.ConsumerKey), Organization: org,
		Action: action, Kind: kind, Name: name,
	}
	var err error
	if e.Before, err = auditJSON(before); err != nil {
		return err
	}
	if e.After, err = auditJSON(after); err != nil {
		return err
	}
	if err := tx.st.AddAudit(ctx, e); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func auditJSON(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return json.Marshal(v)
}

// newID returns a random UUID (RFC 9562 section 5.4).
func (s *server) newID() (string, error) { return newID(s.Rand) }

func newID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// newConsumerKey returns a client_id: 26 lower-case letters and digits.
func newConsumerKey(random io.Reader) (keymanager.ConsumerKey, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("new consumer key: %w", err)
	}
	return keymanager.ConsumerKey(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))), nil
}

// conflict says that the state of things does not allow a request, and where.
func conflict(at, format string, args ...any) *keymanager.Error {
	e := keymanager.Errorf(keymanager.KindConflict, format, args...)
	e.Fields = []keymanager.FieldError{{Path: at, Detail: e.Detail}}
	return e
}

// forbidden is the same for a right that the caller lacks.
func forbidden(at, format string, args ...any) *keymanager.Error {
	e := keymanager.Errorf(keymanager.KindForbidden, format, args...)
	e.Fields = []keymanager.FieldError{{Path: at, Detail: e.Detail}}
	return e
}

// found turns "no such object" into nil.
func found[T any](v *T, err error) (*T, error) {
	if keymanager.IsNotFound(err) {
		return nil, nil // nil is the answer: there is none
	}
	return v, err
}

var errDryRun = errors.New("dry run")
