package sqlstore

import (
	"errors"
	"unicode/utf8"

	"tollgate/keymanager"
	"tollgate/keymanager/store/db"
)

// failure gives an error of the database its kind. Other errors, also those of
// a caller's fn, stay as they are.
func failure(err error) error {
	var known *keymanager.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, db.ErrUnavailable):
		return &keymanager.Error{Kind: keymanager.KindUnavailable, Detail: "the database is not available", Err: err}
	case errors.Is(err, db.ErrNoRows):
		return &keymanager.Error{Kind: keymanager.KindNotFound, Detail: "not found", Err: err}
	case errors.Is(err, db.ErrConflict):
		return &keymanager.Error{Kind: keymanager.KindConflict, Detail: "it exists already", Err: err}
	case errors.Is(err, db.ErrReference):
		return &keymanager.Error{Kind: keymanager.KindConflict, Detail: "it refers to something that does not exist, or is referred to", Err: err}
	case errors.Is(err, db.ErrValue):
		return &keymanager.Error{Kind: keymanager.KindInvalid, Detail: "a value cannot be stored", Err: err}
	}
	return err
}

// explain says in the store's words what a failed statement was about: taken
// when a unique key is taken, missing when a reference does not hold. Empty
// texts leave the general one.
func explain(err error, taken, reference string) error {
	switch {
	case taken != "" && errors.Is(err, db.ErrConflict):
		return &keymanager.Error{Kind: keymanager.KindConflict, Detail: taken, Err: err}
	case reference != "" && errors.Is(err, db.ErrReference):
		return &keymanager.Error{Kind: keymanager.KindConflict, Detail: reference, Err: err}
	}
	return failure(err)
}

// found turns the empty result of a look-up into KindNotFound of what.
func found(err error, what string) error {
	if errors.Is(err, db.ErrNoRows) {
		return notFound(what)
	}
	return failure(err)
}

func notFound(what string) error {
	return &keymanager.Error{Kind: keymanager.KindNotFound, Detail: what + " does not exist"}
}

// storable reports whether the texts can be stored at all. Those that cannot
// (Postgres takes neither NUL nor bytes that are not UTF-8) are not looked up:
// nothing is stored under them.
func storable[T ~string](texts ...T) bool {
	for _, t := range texts {
		if !utf8.ValidString(string(t)) {
			return false
		}
		for i := range len(t) {
			if t[i] == 0 {
				return false
			}
		}
	}
	return true
}
