package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

// firstStart sees to it that the built-in application exists with the
// credential in admin.json, and returns that. It is the same at every start: it
// finishes what a crash interrupted, and replaces a lost admin.json by a new
// credential.
//
// Files come first: what the database knows of is on disk.
//
// A credentials file that the configuration names must exist, and is left as it
// is: several key managers share it.
func firstStart(ctx context.Context, st store.Store, keys *Keys, cfg KeysConfig, state *State, server string, log *slog.Logger) (Credentials, error) {
	known, err := admin.BuiltInClient(ctx, st)
	if err != nil {
		return Credentials{}, err
	}
	if missing := keys.Missing(); known != nil && len(missing) > 0 {
		return Credentials{}, fmt.Errorf("the database holds credentials that were made with keys which are not here: put back %s "+
			"(or name the files with keys.tag_file and keys.pepper_file), or start with another database", strings.Join(missing, " and "))
	}
	if err := keys.Save(); err != nil {
		return Credentials{}, err
	}
	if cfg.AdminFile != "" {
		creds, err := readSharedCredentials(cfg.AdminFile)
		if err != nil {
			return Credentials{}, fmt.Errorf("keys.admin_file: %w", err)
		}
		creds.Server = server
		return creds, administrate(ctx, st, keys, creds, cfg.AdminFile, log)
	}
	path := state.Path(fileAdmin)
	for again := false; ; again = true {
		creds, fresh, err := adminCredentials(ctx, path, server, st, token.NewMinter(keys.Tags, rand.Reader))
		if err == nil {
			err = administrate(ctx, st, keys, creds, path, log)
		}
		switch kind := keymanager.KindOf(err); {
		case fresh && !again && kind == keymanager.KindConflict:
			// Another key manager was first with an empty database: its consumer
			// key is the one now.
			if err = os.Remove(path); err == nil {
				continue
			}
		case fresh && kind == keymanager.KindUnavailable:
			// So it may be at the next try.
			err = errors.Join(err, os.Remove(path))
		}
		return creds, err
	}
}

// administrate makes a credential the administrator's.
func administrate(ctx context.Context, st store.Store, keys *Keys, creds Credentials, path string, log *slog.Logger) error {
	err := admin.Bootstrap(ctx, admin.BootstrapOptions{
		Store: st, Peppers: keys.Peppers, Now: time.Now, Logger: log,
		Credential: admin.Credential{ConsumerKey: creds.ConsumerKey, Secret: string(creds.ConsumerSecret)},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// adminCredentials reads admin.json, or writes a new one.
func adminCredentials(ctx context.Context, path, server string, st store.Store, minter *token.Minter) (creds Credentials, fresh bool, err error) {
	there, err := exists(path)
	if err != nil {
		return Credentials{}, false, err
	}
	if there {
		if creds, err = readCredentials(path); err != nil || creds.Server == server {
			return creds, false, err
		}
	} else {
		made, err := admin.NewAdminCredential(ctx, st, minter, rand.Reader)
		if err != nil {
			return Credentials{}, false, err
		}
		creds = Credentials{ConsumerKey: made.ConsumerKey, ConsumerSecret: Secret(made.Secret)}
	}
	creds.Server = server
	return creds, !there, writePrivateJSON(path, creds)
}
