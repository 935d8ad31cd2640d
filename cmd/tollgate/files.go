package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecretSize bounds a file that holds a secret.
const maxSecretSize = 64 << 10

// readSecretFile reads a file that holds a secret, without the white space
// around it. It refuses one that the world can read; the group may, as
// Kubernetes mounts secrets.
func readSecretFile(path string) (string, error) {
	if err := checkKeyFile(path); err != nil {
		return "", err
	}
	data, err := readSmallFile(path, maxSecretSize)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// checkPrivate refuses a file that the group or the world can read or write.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s holds a secret and has mode %#o: others can read it; run chmod 600 %s", path, mode, path)
	}
	return nil
}

// checkKeyFile refuses a secret of the operator's that the world can read or the
// group write. The group may read: Kubernetes mounts secrets so, and
// certificate managers write for a group.
func checkKeyFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder", path)
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 {
		return fmt.Errorf("%s holds a secret and has mode %#o: others can read or change it; run chmod 640 %s", path, mode, path)
	}
	return nil
}

// readPrivateJSON reads a 0600 file into v. Unknown keys are errors: the file
// is ours.
func readPrivateJSON(path string, v any) error {
	if err := checkPrivate(path); err != nil {
		return err
	}
	data, err := readSmallFile(path, maxSecretSize)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writePrivateJSON writes v to path as writePrivate does.
func writePrivateJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(path, append(data, '\n'))
}

// writePrivate writes a 0600 file so that a crash leaves the old content or
// the new one, and that the new one is on disk when it returns.
func writePrivate(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// createPrivate writes a 0600 file that must not exist yet.
func createPrivate(path string, data []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writePrivate(path, data)
}

// linkPrivate is writePrivate for a file that several processes may make at
// once: the first one wins, and that is no error of the others.
func linkPrivate(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir puts a rename in dir on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
