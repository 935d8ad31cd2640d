package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"tollgate/keymanager/token"
)

// Keys are the two keys that make and recognise credentials. They are files of
// their own and never in the database. An authz apart from the key manager has
// the first one alone.
type Keys struct {
	Tags    *token.TagKeys
	Peppers *token.Peppers

	fresh []keyFile // made now, not written yet
}

type keyFile struct {
	path    string
	content []byte
}

// loadKeys reads both key files. Those of the state folder are made where they
// are missing, in memory: whoever opens the database decides whether it may
// have new keys, and then calls Save.
func loadKeys(cfg KeysConfig, state *State, rand io.Reader) (*Keys, error) {
	keys := &Keys{}
	tags, err := keys.read(cfg.TagFile, state.Path(fileTagKey), func() ([]byte, error) { return token.NewTagKeys(rand) })
	if err != nil {
		return nil, fmt.Errorf("tag key: %w", err)
	}
	if keys.Tags, err = token.ParseTagKeys(tags); err != nil {
		return nil, fmt.Errorf("tag key: %w", err)
	}
	peppers, err := keys.read(cfg.PepperFile, state.Path(filePepperKey), func() ([]byte, error) { return token.NewPeppers(rand) })
	if err != nil {
		return nil, fmt.Errorf("pepper key: %w", err)
	}
	if keys.Peppers, err = token.ParsePeppers(peppers); err != nil {
		return nil, fmt.Errorf("pepper key: %w", err)
	}
	return keys, nil
}

// errKeyNotMade says that the key manager has not made a key yet that lies in
// the state folder.
var errKeyNotMade = errors.New("is made by the key manager at its first start")

// loadTagKey reads the one key that an authz shares with the key managers.
func loadTagKey(cfg KeysConfig, state *State) (*Keys, error) {
	path := cfg.TagFile
	if path == "" {
		path = state.Path(fileTagKey)
	}
	content, err := readKeyFile(path, cfg.TagFile != "")
	if errors.Is(err, fs.ErrNotExist) && cfg.TagFile == "" {
		return nil, fmt.Errorf("tag key: %s %w", path, errKeyNotMade)
	}
	if err != nil {
		return nil, fmt.Errorf("tag key: %w", err)
	}
	keys := &Keys{}
	if keys.Tags, err = token.ParseTagKeys(content); err != nil {
		return nil, fmt.Errorf("tag key: %w", err)
	}
	return keys, nil
}

// readKeyFile reads a key. A file that the configuration names may be readable
// by the group, as Kubernetes mounts it.
func readKeyFile(path string, named bool) ([]byte, error) {
	check := checkPrivate
	if named {
		check = checkKeyFile
	}
	if err := check(path); err != nil {
		return nil, err
	}
	return readSmallFile(path, maxSecretSize)
}

// read returns the content of the configured file, of the one in the state
// folder, or a new one.
func (k *Keys) read(configured, inState string, fresh func() ([]byte, error)) ([]byte, error) {
	path := configured
	if path == "" {
		path = inState
	}
	content, err := readKeyFile(path, configured != "")
	if err == nil {
		return content, nil
	}
	if configured != "" || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	content, err = fresh()
	if err != nil {
		return nil, err
	}
	k.fresh = append(k.fresh, keyFile{path, content})
	return content, nil
}

// Missing names the key files that were not there.
func (k *Keys) Missing() []string {
	var paths []string
	for _, f := range k.fresh {
		paths = append(paths, f.path)
	}
	return paths
}

// Save puts new keys on disk. It comes before anything that they made is
// stored.
func (k *Keys) Save() error {
	for _, f := range k.fresh {
		if err := createPrivate(f.path, f.content); err != nil {
			return err
		}
	}
	k.fresh = nil
	return nil
}
