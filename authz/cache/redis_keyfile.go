package cache

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The file of the Redis key is text, one entry a line:
//
//	tollgate-redis-keys 1
//	# comments and empty lines are skipped
//	current 2 <64 hexadecimal digits>
//	previous 1 <64 hexadecimal digits>
//
// Ids are 1 to 255. "previous" may be absent.
const (
	redisKeysHeading = "tollgate-redis-keys 1"
	redisKeySize     = 32
	maxRedisKeyFile  = 4 << 10
)

// RedisKeys are the two generations of the key that the gateways share: it
// hides what the keys in Redis stand for, and seals the values. The current one
// writes, both read.
type RedisKeys struct {
	current, previous *redisKey // previous may be nil
}

// redisSecret is an entry of the file; id 0 = absent.
type redisSecret struct {
	id     uint8
	secret [redisKeySize]byte
}

// NewRedisKeys returns the content of a new file of the Redis key.
func NewRedisKeys(rand io.Reader) ([]byte, error) {
	current, err := newRedisSecret(1, rand)
	if err != nil {
		return nil, err
	}
	return formatRedisKeys(current, redisSecret{}), nil
}

// RotateRedisKeys returns file with a new current key; the one that was current
// becomes the previous one. A gateway that has only the old file misses what
// the new key wrote; nothing else happens, in whatever order they get the file.
func RotateRedisKeys(file []byte, rand io.Reader) ([]byte, error) {
	old, _, err := parseRedisKeyFile(file)
	if err != nil {
		return nil, err
	}
	id := old.id + 1
	if id == 0 { // after 255 comes 1
		id = 1
	}
	current, err := newRedisSecret(id, rand)
	if err != nil {
		return nil, err
	}
	return formatRedisKeys(current, old), nil
}

// ParseRedisKeys reads the content of a file of the Redis key. Its errors name
// the line, and show nothing of a key.
func ParseRedisKeys(file []byte) (*RedisKeys, error) {
	current, previous, err := parseRedisKeyFile(file)
	if err != nil {
		return nil, err
	}
	k := &RedisKeys{current: newRedisKey(current)}
	if previous.id != 0 {
		k.previous = newRedisKey(previous)
	}
	return k, nil
}

func newRedisSecret(id uint8, rand io.Reader) (redisSecret, error) {
	s := redisSecret{id: id}
	if _, err := io.ReadFull(rand, s.secret[:]); err != nil {
		return redisSecret{}, fmt.Errorf("cache: reading randomness: %w", err)
	}
	return s, nil
}

// formatRedisKeys writes the entries; comments of an earlier file are not kept.
func formatRedisKeys(current, previous redisSecret) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# Secret: readable by its owner alone (mode 0600).\n", redisKeysHeading)
	fmt.Fprintf(&b, "current %d %x\n", current.id, current.secret)
	if previous.id != 0 {
		fmt.Fprintf(&b, "previous %d %x\n", previous.id, previous.secret)
	}
	return b.Bytes()
}

func parseRedisKeyFile(file []byte) (current, previous redisSecret, err error) {
	none := redisSecret{}
	if len(file) > maxRedisKeyFile {
		return none, none, fmt.Errorf("line 1: want a key file of at most %d bytes, got %d", maxRedisKeyFile, len(file))
	}
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if i == 0 {
			if line != redisKeysHeading {
				return none, none, fmt.Errorf("line 1: want %q", redisKeysHeading)
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		role, s, err := parseRedisSecret(line)
		into := map[string]*redisSecret{"current": &current, "previous": &previous}[role]
		switch {
		case err != nil:
		case into == nil:
			err = errors.New("want current or previous as the first field")
		case into.id != 0:
			err = fmt.Errorf("a second %s key", role)
		}
		if err != nil {
			return none, none, fmt.Errorf("line %d: %w", i+1, err)
		}
		*into = s
	}
	switch {
	case current.id == 0:
		return none, none, errors.New(`want a line "current ID KEY", found none`)
	case current.id == previous.id:
		return none, none, fmt.Errorf("both keys have id %d", current.id)
	case current.secret == previous.secret:
		return none, none, errors.New("both keys are the same")
	}
	return current, previous, nil
}

// parseRedisSecret reads one entry. Its errors do not quote the line: it holds
// a key.
func parseRedisSecret(line string) (role string, s redisSecret, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return "", s, fmt.Errorf("want three fields with one space between them (current or previous, id, key), got %d", len(fields))
	}
	id, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil || id == 0 {
		return "", s, errors.New("want an id from 1 to 255 as the second field")
	}
	if len(fields[2]) != 2*redisKeySize {
		return "", s, fmt.Errorf("want a key of %d hexadecimal digits, got %d characters", 2*redisKeySize, len(fields[2]))
	}
	if _, err := hex.Decode(s.secret[:], []byte(fields[2])); err != nil {
		return "", redisSecret{}, errors.New("the key has characters that are not hexadecimal digits")
	}
	if s.secret == [redisKeySize]byte{} {
		return "", redisSecret{}, errors.New("the key is all zeros")
	}
	s.id = uint8(id)
	return fields[0], s, nil
}
