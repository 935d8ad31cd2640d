package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tollgate/authz/cache"
	"tollgate/keymanager"
	"tollgate/keymanager/admin"
	"tollgate/keymanager/store"
	"tollgate/keymanager/token"
)

func newKeyFileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keyfile",
		Short:   "The key files that several processes share: make and rotate them",
		GroupID: "serve",
	}
	cmd.AddCommand(newKeyFileNewCommand(), newKeyFileRotateCommand())
	return cmd
}

func newKeyFileNewCommand() *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:   "new FOLDER",
		Short: "Make the key files of a new deployment, and the administrator's credentials",
		Long: "Make what the processes of a new deployment share, each a 0600 file: tag.key (key managers and authz), pepper.key\n" +
			"and admin.json (key managers), redis.key (authz). One process alone makes its own, in its state folder.",
		Example: "  tollgate keyfile new secrets --server https://login.example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return newKeyFiles(cmd.Context(), args[0], server, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "base URL of the key managers, for admin.json")
	_ = cmd.MarkFlagRequired("server")
	return cmd
}

// newKeyFiles makes the files in dir; none of them may exist.
func newKeyFiles(ctx context.Context, dir, server string, out io.Writer) error {
	if err := checkServer(server); err != nil {
		return err
	}
	tags, err := token.NewTagKeys(rand.Reader)
	if err != nil {
		return err
	}
	peppers, err := token.NewPeppers(rand.Reader)
	if err != nil {
		return err
	}
	shared, err := cache.NewRedisKeys(rand.Reader)
	if err != nil {
		return err
	}
	parsed, err := token.ParseTagKeys(tags)
	if err != nil {
		return err
	}
	made, err := admin.NewAdminCredential(ctx, emptyStore{}, token.NewMinter(parsed, rand.Reader), rand.Reader)
	if err != nil {
		return err
	}
	if err := privateDir(dir); err != nil {
		return err
	}
	for _, f := range []struct {
		name, what string
		content    []byte
	}{
		{fileTagKey, "keys.tag_file of key managers and authz", tags},
		{filePepperKey, "keys.pepper_file of key managers", peppers},
		{fileRedisKey, "redis.key_file of authz", shared},
	} {
		path := filepath.Join(dir, f.name)
		if err := createPrivate(path, f.content); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%s: %s\n", path, f.what)
	}
	path := filepath.Join(dir, fileAdmin)
	err = reserveFile(path, func() error {
		return writePrivateJSON(path, Credentials{Server: server, ConsumerKey: made.ConsumerKey, ConsumerSecret: Secret(made.Secret)})
	})
	if err == nil {
		_, err = fmt.Fprintf(out, "%s: keys.admin_file of key managers, and --credentials of the commands\n", path)
	}
	return err
}

// applications are those of a database.
type applications = store.Applications

// emptyStore is a database before its first start.
type emptyStore struct{ applications }

// ApplicationByName implements store.Applications.
func (emptyStore) ApplicationByName(context.Context, keymanager.OrganizationID, string) (*keymanager.Application, error) {
	return nil, keymanager.Errorf(keymanager.KindNotFound, "no application")
}

// rotations are the kinds of key files, with what makes a new generation.
var rotations = map[string]func([]byte, io.Reader) ([]byte, error){
	"tag":    token.RotateTagKeys,
	"pepper": token.RotatePeppers,
	"redis":  cache.RotateRedisKeys,
}

func newKeyFileRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate tag|pepper|redis FILE",
		Short: "Put a new key into a key file; what the old one made stays good",
		Long: "Put a new key into a key file. The one before stays in it for what it has made; the one before that is gone, and\n" +
			"what it made with it. Processes read key files when they start. Give every process the new file, and restart those\n" +
			"first that only read: with tag every authz, then the key managers.",
		Example: "  tollgate keyfile rotate tag secrets/tag.key",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rotate, ok := rotations[args[0]]
			if !ok {
				return fmt.Errorf("%q is not one of tag, pepper, redis", args[0])
			}
			info, err := os.Stat(args[1])
			if err != nil {
				return err
			}
			old, err := readKeyFile(args[1], true)
			if err != nil {
				return err
			}
			fresh, err := rotate(old, rand.Reader)
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			if err := writePrivate(args[1], fresh); err != nil {
				return err
			}
			if err := os.Chmod(args[1], info.Mode().Perm()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has a new key\n", args[1])
			return err
		},
	}
}
