package token

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"tollgate/keymanager"
)

const (
	hexA = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
	hexB = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
)

func TestParseKeyFiles(t *testing.T) {
	const head = tagKeysHeading + "\n"
	for _, tt := range []struct {
		name, file, wantErr string // wantErr "" = accepted
	}{
		{"one key", head + "current 1 " + hexA, ""},
		{"two keys, comments, empty lines", head + "# x\n\ncurrent 2 " + hexA + "\nprevious 1 " + hexB + "\n", ""},
		{"previous first", head + "previous 255 " + hexB + "\ncurrent 1 " + hexA + "\n", ""},
		{"CR LF", strings.ReplaceAll(head+"current 1 "+hexA+"\n", "\n", "\r\n"), ""},
		{"upper-case digits", head + "current 1 " + strings.ToUpper(hexA), ""},
		{"empty", "", "line 1: want \"tollgate-tag-keys 1\""},
		{"another kind of file", peppersHeading + "\ncurrent 1 " + hexA, "line 1: want"},
		{"another version", "tollgate-tag-keys 2\ncurrent 1 " + hexA, "line 1: want"},
		{"no key", head, "want a line \"current ID KEY\""},
		{"previous alone", head + "previous 1 " + hexA, "want a line \"current"},
		{"unknown role", head + "next 1 " + hexA, "line 2: want current or previous"},
		{"two fields", head + "current " + hexA, "line 2: want three fields"},
		{"two spaces", head + "current  1 " + hexA, "line 2: want three fields"},
		{"trailing space", head + "current 1 " + hexA + " ", "line 2: want three fields"},
		{"id 0", head + "current 0 " + hexA, "line 2: want an id from 1 to 255"},
		{"id 256", head + "current 256 " + hexA, "line 2: want an id"},
		{"id -1", head + "current -1 " + hexA, "line 2: want an id"},
		{"short key", head + "current 1 " + hexA[2:], "line 2: want a key of 64 hexadecimal digits, got 62"},
		{"odd key", head + "current 1 " + hexA + "0", "got 65"},
		{"not hexadecimal", head + "# c\ncurrent 1 x" + hexA[1:], "line 3: the key has characters"},
		{"zero key", head + "current 1 " + strings.Repeat("0", 64), "line 2: the key is all zeros"},
		{"current twice", head + "current 1 " + hexA + "\ncurrent 2 " + hexB, "line 3: a second current key"},
		{"same id", head + "current 1 " + hexA + "\nprevious 1 " + hexB, "line 3: both keys have id 1"},
		{"same key", head + "current 2 " + hexA + "\nprevious 1 " + hexA, "line 3: both keys are the same"},
		{"too long", head + "current 1 " + hexA + "\n#" + strings.Repeat("x", maxKeyFile), "at most 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := ParseTagKeys([]byte(tt.file))
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.wantErr != "" && err == nil:
				t.Errorf("accepted, want an error with %q", tt.wantErr)
			case tt.wantErr != "" && !strings.Contains(err.Error(), tt.wantErr):
				t.Errorf("error is %q, want it to contain %q", err, tt.wantErr)
			case (keys == nil) != (err != nil):
				t.Error("keys beside an error, or neither")
			}
			if err != nil && (strings.Contains(err.Error(), hexA[8:32]) || strings.Contains(err.Error(), hexB[8:32])) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
	if _, err := ParsePeppers([]byte(head + "current 1 " + hexA)); err == nil {
		t.Error("a tag key file is accepted as a pepper file")
	}
}

func TestRotateTagKeys(t *testing.T) {
	file, err := NewTagKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for generation := range 300 { // ids wrap after 255
		tags, err := ParseTagKeys(file)
		if err != nil {
			t.Fatalf("generation %d: %v", generation, err)
		}
		values = append(values, mint(t, NewMinter(tags, rand.Reader).AccessToken))
		for i := max(0, generation-3); i <= generation; i++ {
			if got, want := tags.Check(keymanager.AccessToken, values[i]), i >= generation-1; got != want {
				t.Fatalf("generation %d: a token of generation %d: %v, want %v", generation, i, got, want)
			}
		}
		if file, err = RotateTagKeys(file, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotateFails(t *testing.T) {
	if _, err := NewTagKeys(io.LimitReader(rand.Reader, 31)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a new file without randomness: %v", err)
	}
	file, err := NewPeppers(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RotatePeppers(file, io.LimitReader(rand.Reader, 31)); err == nil {
		t.Error("rotated without randomness")
	}
	if _, err := RotateTagKeys(file, rand.Reader); err == nil {
		t.Error("rotated a pepper file as tag keys")
	}
}

func FuzzParseTagKeys(f *testing.F) {
	f.Add(tagKeysHeading + "\ncurrent 2 " + hexA + "\nprevious 1 " + hexB + "\n")
	f.Add(tagKeysHeading + "\n")
	f.Fuzz(func(t *testing.T, file string) {
		parsed, err := parseKeyFile(tagKeysHeading, []byte(file))
		if err != nil {
			return
		}
		again, err := parseKeyFile(tagKeysHeading, parsed.format(tagKeysHeading))
		if err != nil || *again != *parsed {
			t.Errorf("written and read again: %v", err)
		}
	})
}

func ExampleRotateTagKeys() {
	file, _ := NewTagKeys(strings.NewReader(strings.Repeat("k", 32)))
	file, _ = RotateTagKeys(file, strings.NewReader(strings.Repeat("l", 32)))
	fmt.Println(string(file))
	// Output:
	// tollgate-tag-keys 1
	// # Secret: readable by its owner alone (mode 0600).
	// current 2 6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c6c
	// previous 1 6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b
}
