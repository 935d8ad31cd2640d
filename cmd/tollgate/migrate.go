package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tollgate/keymanager/store/sqlstore"
)

func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "migrate",
		Short:   "Bring the database up to date, back it up, or say what it lacks",
		Long:    "Bring the database up to date, back it up, or say what it lacks. serve and dev bring it up to date when they start.",
		GroupID: "serve",
	}
	cmd.AddCommand(
		newMigrateStep("up", "Run the migrations that the database lacks", true),
		newMigrateStep("status", "Show the migrations that the database lacks", false),
		newMigrateBackup(),
		newMigrateRestored(),
	)
	return cmd
}

func newMigrateStep(name, short string, up bool) *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := flags.database(cmd)
			if err != nil {
				return err
			}
			defer db.close()
			pending, err := db.pending(cmd.Context())
			if err != nil {
				return err
			}
			done := "pending: "
			if up {
				done = "applied: "
				st, err := db.open(cmd.Context())
				if err != nil {
					return err
				}
				if err := st.Close(); err != nil {
					return err
				}
			}
			for _, m := range pending {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), done+m); err != nil {
					return err
				}
			}
			if len(pending) == 0 || up {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "the database is up to date")
			}
			return err
		},
	}
	flags.register(cmd.Flags())
	return cmd
}

// database is the one of the configuration, for a command that works on it.
type database struct {
	cfg   Config
	state *State
	opts  sqlstore.Options
}

// database reads the configuration, and takes the state folder if the database
// lies in it. PostgreSQL can be worked on beside a process that runs on this
// machine.
func (f *serverFlags) database(cmd *cobra.Command) (*database, error) {
	cfg, err := f.config(cmd.Flags())
	if err != nil {
		return nil, err
	}
	state := &State{}
	if cfg.Store.DSN == "" {
		if state, err = openState(cfg.State.Dir); err != nil {
			return nil, err
		}
	}
	return &database{cfg, state, storeOptions(&cfg, newLogger(cmd.ErrOrStderr(), cfg.Log))}, nil
}

func (d *database) close() { _ = d.state.Close() }

// open opens the database, brought up to date.
func (d *database) open(ctx context.Context) (*sqlstore.Store, error) {
	return openSQLStore(ctx, &d.cfg, d.state, d.opts)
}

// pending opens the database as it is and lists what it lacks.
func (d *database) pending(ctx context.Context) ([]string, error) {
	opts := d.opts
	opts.NoMigrate = true
	st, err := openSQLStore(ctx, &d.cfg, d.state, opts)
	if err != nil {
		return nil, err
	}
	defer func() { _ = st.Close() }()
	return st.Pending(ctx)
}
