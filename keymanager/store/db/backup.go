package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// BackupSQLite copies the database file at path into a new one, as of one
// moment. Another process may have it open and write to it.
func BackupSQLite(ctx context.Context, path, to string) error {
	if _, err := os.Stat(path); err != nil { // opening would make it
		return fmt.Errorf("back up the database: %w", err)
	}
	// The file is made here, for its mode; SQLite takes one that is empty.
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("back up the database: %s exists already", to)
	}
	if err != nil {
		return fmt.Errorf("back up the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("back up the database: %w", err)
	}
	h, err := openHandle(path, 1)
	if err == nil {
		_, err = h.ExecContext(ctx, "VACUUM INTO ?", to)
		err = errors.Join(err, h.Close())
	}
	if err == nil {
		err = syncFile(to)
	}
	if err != nil {
		_ = os.Remove(to) // half a copy is none
		return fmt.Errorf("back up the database: %w", classify(err))
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
