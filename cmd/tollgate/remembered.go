package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// remembered is how far the log was when this key manager last looked. It is
// durable before it is seen, so a database that is behind, in the same epoch,
// lives in the past: it was restored from a backup, or has lost what it had
// answered. What was revoked since would be honoured again, and the numbers of
// events given twice.
type remembered struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// rememberEvery is how often it is written down, if there is something new.
const rememberEvery = 5 * time.Second

// readRemembered returns what is written down; nothing in a new folder.
func readRemembered(path string) (last remembered, err error) {
	if err = readPrivateJSON(path, &last); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return last, fmt.Errorf("how far the log was: %w; remove the file if the database was not restored from a backup", err)
	}
	return last, nil
}

// check refuses a database that lives in the past. `migrate restored` gives the
// log a new epoch, of which nothing is remembered.
func (r remembered) check(head keymanager.Position) error {
	if head.Epoch.String() == r.Epoch && head.Seq < r.Seq {
		return store.InThePast(r.Seq, head.Seq)
	}
	return nil
}

// checkRemembered refuses a database that lives in the past.
func checkRemembered(ctx context.Context, st store.Store, path string) error {
	last, err := readRemembered(path)
	if err != nil {
		return err
	}
	head, err := st.Head(ctx)
	if err != nil {
		return err
	}
	return last.check(head)
}

// remember writes down how far the log is, until ctx ends. A database that is
// suddenly in the past ends the process: whoever writes to it would give numbers
// of events twice.
func (d *daemon) remember(ctx context.Context) error {
	path := d.state.Path(fileLog)
	last, err := readRemembered(path)
	if err != nil {
		return err
	}
	failing := false
	look := func() error {
		head, err := d.store.Head(store.Patient(ctx))
		now := remembered{head.Epoch.String(), head.Seq}
		if err == nil && now != last {
			if err := last.check(head); err != nil {
				return err
			}
			if err = writePrivateJSON(path, now); err == nil {
				last = now
			} else if !failing {
				d.log.Error("how far the log is cannot be written down: a database that is restored and not made safe would not be noticed", "error", err)
			}
			failing = err != nil
		}
		return nil
	}
	if err := look(); err != nil {
		return err
	}
	return every(ctx, rememberEvery, look)
}
