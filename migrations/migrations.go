// Package migrations holds the shape of the database, once for each engine: the
// same numbers and names in both folders, so that a version means the same
// everywhere. Migrations are only ever added; new code runs on the schema
// before its own, and columns are listed by name, never "*".
//
// The rules that let one SQL text serve both engines: times are Unix
// milliseconds (UTC) in an integer, identifiers and names are text, digests and
// token ids are binary, documents are JSON (text in SQLite, jsonb in
// Postgres), lists of scopes are one text separated by spaces (RFC 6749 section
// 3.3).
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// SQLite returns the migrations of a SQLite database.
func SQLite() fs.FS { return sub("sqlite") }

// Postgres returns the migrations of a Postgres database.
func Postgres() fs.FS { return sub("postgres") }

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil { // only for a name that is not a valid path
		panic(err)
	}
	return f
}
