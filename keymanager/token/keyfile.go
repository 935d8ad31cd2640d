package token

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A key file is text, one entry a line:
//
//	tollgate-tag-keys 1
//	# comments and empty lines are skipped
//	current 2 <64 hexadecimal digits>
//	previous 1 <64 hexadecimal digits>
//
// The first line says what it is and the version of the format, so that one
// kind of file is not taken for another. Ids are 1 to 255. "previous" may be
// absent.
type keyFile struct {
	current, previous generation
}

type generation struct {
	id     uint8 // 0 = absent
	secret [keySize]byte
}

const (
	roleCurrent  = "current"
	rolePrevious = "previous"

	maxKeyFile = 4 << 10
)

func newKeyFile(heading string, rand io.Reader) ([]byte, error) {
	var f keyFile
	if err := f.current.fill(1, rand); err != nil {
		return nil, err
	}
	return f.format(heading), nil
}

func rotateKeyFile(heading string, file []byte, rand io.Reader) ([]byte, error) {
	f, err := parseKeyFile(heading, file)
	if err != nil {
		return nil, err
	}
	id := f.current.id + 1
	if id == 0 { // after 255 comes 1
		id = 1
	}
	f.previous = f.current
	if err := f.current.fill(id, rand); err != nil {
		return nil, err
	}
	return f.format(heading), nil
}

func (g *generation) fill(id uint8, rand io.Reader) error {
	g.id = id
	if _, err := io.ReadFull(rand, g.secret[:]); err != nil {
		return fmt.Errorf("token: reading randomness: %w", err)
	}
	return nil
}

// format writes the entries; comments of an earlier file are not kept.
func (f *keyFile) format(heading string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# Secret: readable by its owner alone (mode 0600).\n", heading)
	fmt.Fprintf(&b, "%s %d %x\n", roleCurrent, f.current.id, f.current.secret)
	if f.previous.id != 0 {
		fmt.Fprintf(&b, "%s %d %x\n", rolePrevious, f.previous.id, f.previous.secret)
	}
	return b.Bytes()
}

func parseKeyFile(heading string, file []byte) (*keyFile, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("line 1: want a key file of at most %d bytes, got %d", maxKeyFile, len(file))
	}
	var f keyFile
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSuffix(line, "\r")
		var err error
		switch {
		case i == 0:
			if line != heading {
				err = fmt.Errorf("want %q", heading)
			}
		case line == "" || line[0] == '#':
		default:
			err = f.parseLine(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if f.current.id == 0 {
		return nil, fmt.Errorf("want a line %q, found none", roleCurrent+" ID KEY")
	}
	return &f, nil
}

// parseLine reads one entry. Its errors do not quote the line: it holds a key.
func (f *keyFile) parseLine(line string) error {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return fmt.Errorf("want three fields with one space between them (%s or %s, id, key), got %d",
			roleCurrent, rolePrevious, len(fields))
	}
	var g, other *generation
	switch fields[0] {
	case roleCurrent:
		g, other = &f.current, &f.previous
	case rolePrevious:
		g, other = &f.previous, &f.current
	default:
		return fmt.Errorf("want %s or %s as the first field", roleCurrent, rolePrevious)
	}
	if g.id != 0 {
		return fmt.Errorf("a second %s key", fields[0])
	}
	id, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil || id == 0 {
		return errors.New("want an id from 1 to 255 as the second field")
	}
	if hex.DecodedLen(len(fields[2])) != keySize || len(fields[2])%2 != 0 {
		return fmt.Errorf("want a key of %d hexadecimal digits, got %d characters", 2*keySize, len(fields[2]))
	}
	var secret [keySize]byte
	if _, err := hex.Decode(secret[:], []byte(fields[2])); err != nil {
		return errors.New("the key has characters that are not hexadecimal digits")
	}
	switch {
	case secret == [keySize]byte{}:
		return errors.New("the key is all zeros")
	case uint8(id) == other.id:
		return fmt.Errorf("both keys have id %d", id)
	case secret == other.secret:
		return errors.New("both keys are the same")
	}
	*g = generation{id: uint8(id), secret: secret}
	return nil
}

func (f *keyFile) keys() (current, previous *key) {
	current = newKey(f.current.id, f.current.secret)
	if f.previous.id != 0 {
		previous = newKey(f.previous.id, f.previous.secret)
	}
	return current, previous
}
