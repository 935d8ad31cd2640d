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

// checkRemembered refuses a database that lives in the past. `migrate restored`
// gives the log a new epoch, of which nothing is remembered.
func checkRemembered(ctx context.Context, st store.Store, path string) error {
	var last remembered
	if err := readPrivateJSON(path, &last); errors.Is(err, fs.ErrNotExist) {
		return nil // a new folder: there is nothing to compare with
	} else if err != nil {
		return fmt.Errorf("how far the log was: %w; remove the file if the database was not restored from a backup", err)
	}
	head, err := st.Head(ctx)
	if err != nil {
		return err
	}
	if head.Epoch.String() == last.Epoch && head.Seq < last.Seq {
		return fmt.Errorf("the database is behind what it was: its log ends at event %d, and was at %d. If it was restored from a backup, "+
			"or has lost transactions in a fail-over, run \"tollgate migrate restored\" before a key manager starts on it: "+
			"what was revoked since would be honoured again", head.Seq, last.Seq)
	}
	return nil
}

// remember writes down how far the log is, until ctx ends.
func (d *daemon) remember(ctx context.Context) error {
	path := d.state.Path(fileLog)
	tick := time.NewTicker(rememberEvery)
	defer tick.Stop()
	var last keymanager.Position
	failing := false
	for {
		head, err := d.store.Head(store.Patient(ctx))
		if err == nil && head != last {
			if err = writePrivateJSON(path, remembered{head.Epoch.String(), head.Seq}); err == nil {
				last = head
			} else if !failing {
				d.log.Error("how far the log is cannot be written down: a database that is restored and not made safe would not be noticed", "error", err)
			}
			failing = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
