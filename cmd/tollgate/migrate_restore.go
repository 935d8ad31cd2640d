package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"tollgate/keymanager/store/sqlstore"
)

func newMigrateBackup() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the embedded database (SQLite) into a new file",
		Long: `Copy the embedded database (SQLite) into a new file, also while a process uses it. The copy is complete as of one moment.
Back up the keys beside it too: without tag.key and pepper.key no stored credential can be checked.
PostgreSQL has its own tools: pg_basebackup, pg_dump.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.config(cmd.Flags())
			if err != nil {
				return err
			}
			if cfg.Store.DSN != "" {
				return errors.New("the database is PostgreSQL: back it up with pg_basebackup or pg_dump")
			}
			if err := sqlstore.BackupSQLite(cmd.Context(), filepath.Join(cfg.State.Dir, fileDatabase), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "copied to %s\n", args[0])
			return err
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

func newMigrateRestored() *cobra.Command {
	var flags serverFlags
	var keep bool
	cmd := &cobra.Command{
		Use:   "restored",
		Short: "Make a database that was restored from a backup safe to serve from",
		Long: `Make a database that was restored from a backup safe to serve from. Run it before the first key manager starts on the database.

A restored database does not know what was revoked after the backup was made. So every access token that it holds is revoked:
clients get new ones with their secrets. The log starts a new epoch, so that gateways forget what they have cached and take a
full snapshot. API keys, client secrets, users and subscriptions are again as they were: see what was changed since, and do it
again. Running the command twice does no harm.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := flags.database(cmd)
			if err != nil {
				return err
			}
			defer db.close()
			st, err := db.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = st.Close() }() // what is committed is
			revoked := 0
			if !keep {
				if revoked, err = st.RevokeAllTokens(cmd.Context()); err != nil {
					return err
				}
			}
			epoch, err := st.NewEpoch(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked %d access tokens; the log is in epoch %s\n"+
				"API keys, client secrets, users and subscriptions are as they were when the backup was made\n", revoked, epoch)
			return err
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&keep, "keep-tokens", false, "revoke no tokens: only where nothing can have been revoked since the backup")
	return cmd
}
