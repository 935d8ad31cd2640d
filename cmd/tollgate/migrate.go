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
			cfg, err := flags.config(cmd.Flags())
			if err != nil {
				return err
			}
			state, err := databaseState(&cfg)
			if err != nil {
				return err
			}
			defer func() { _ = state.Close() }()
			opts := storeOptions(&cfg, newLogger(cmd.ErrOrStderr(), cfg.Log))
			pending, err := pendingMigrations(cmd.Context(), &cfg, state, opts)
			if err != nil {
				return err
			}
			done := "pending: "
			if up {
				done = "applied: "
				st, err := openSQLStore(cmd.Context(), &cfg, state, opts)
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

// databaseState opens the state folder if the database lies in it. PostgreSQL
// can be worked on beside a process that runs on this machine.
func databaseState(cfg *Config) (*State, error) {
	if cfg.Store.DSN != "" {
		return &State{}, nil
	}
	return openState(cfg.State.Dir)
}

// pendingMigrations opens the database as it is and lists what it lacks.
func pendingMigrations(ctx context.Context, cfg *Config, state *State, opts sqlstore.Options) ([]string, error) {
	opts.NoMigrate = true
	st, err := openSQLStore(ctx, cfg, state, opts)
	if err != nil {
		return nil, err
	}
	defer func() { _ = st.Close() }()
	return st.Pending(ctx)
}
