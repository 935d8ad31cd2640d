package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tollgate/keymanager"
)

// gate stands before every operation: who calls, may he, and is the body of a
// kind that the operation reads? Nothing of the body has been read by then.
func (s *server) gate(hctx huma.Context, next func(huma.Context)) {
	op := hctx.Operation()
	r, w := humago.Unwrap(hctx)
	caller, err := s.Authenticator.Authenticate(r.WithContext(urgency(r.Context(), r.Method)))
	if err != nil {
		s.notAuthenticated(r, w, err)
		return
	}
	need, known := rights[op.OperationID]
	if !known || !need.allows(caller) {
		p := problemOf(need.refusal())
		p.header.Set("WWW-Authenticate", challenge("insufficient_scope", need.wanted()))
		writeProblem(w, p)
		return
	}
	req := &request{caller: caller, param: r.PathValue}
	if org := req.organization(); org != "" && !caller.reaches(org) {
		writeProblem(w, problemOf(noOrganization(org)))
		return
	}
	if op.RequestBody != nil {
		mt, ok := mediaType(op, r.Header.Get("Content-Type"))
		if !ok {
			writeProblem(w, newProblem(http.StatusUnsupportedMediaType, "send the body as "+mediaTypes(op)))
			return
		}
		r.Header.Set("Content-Type", mt)
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), requestKey{}, req), timeoutOf(op))
	defer cancel()
	next(huma.WithContext(hctx, ctx))
}

func (s *server) notAuthenticated(r *http.Request, w http.ResponseWriter, err error) {
	var p *Problem
	switch {
	case errors.Is(err, ErrNoCredential):
		p = newProblem(http.StatusUnauthorized, "send an access token: Authorization: Bearer")
		p.header.Set("WWW-Authenticate", challenge("", nil))
	case errors.Is(err, ErrInvalidToken):
		p = newProblem(http.StatusUnauthorized, ErrInvalidToken.Error())
		p.header.Set("WWW-Authenticate", challenge("invalid_token", nil))
	default:
		s.Logger.WarnContext(r.Context(), "management request: caller not known", "error", err)
		p = unavailable()
	}
	writeProblem(w, p)
}

func noOrganization(org keymanager.OrganizationID) *keymanager.Error {
	return keymanager.Errorf(keymanager.KindNotFound, "no such organization: %q", string(org))
}

// orNoOrganization says so in the words that a foreign organization gets.
func orNoOrganization(err error, org keymanager.OrganizationID) error {
	if keymanager.IsNotFound(err) {
		return noOrganization(org)
	}
	return err
}

// mediaType returns the plain media type of a body, and whether an operation
// reads it. A body of no type is taken for JSON.
func mediaType(op *huma.Operation, contentType string) (string, bool) {
	if contentType == "" {
		contentType = "application/json"
	}
	mt, _, err := mime.ParseMediaType(contentType)
	return mt, err == nil && op.RequestBody.Content[mt] != nil
}

// outermost answers what no operation answers, in the same form, and keeps a
// panic from the client.
func (s *server) outermost(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // secrets are shown once
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.Logger.ErrorContext(r.Context(), "panic in the management API", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			writeProblem(w, newProblem(http.StatusInternalServerError, "internal error"))
		}()
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(&unmatched{ResponseWriter: w, path: r.URL.Path}, r)
	})
}

// unmatched turns the plain 404 and 405 of a ServeMux into problems.
type unmatched struct {
	http.ResponseWriter
	path string
	done bool
}

// WriteHeader writes the problem instead.
func (u *unmatched) WriteHeader(status int) {
	u.done = true
	detail := "nothing is here; see " + OpenAPIPath + ".json"
	if status == http.StatusMethodNotAllowed {
		detail = "allowed here: " + u.Header().Get("Allow")
	}
	writeProblem(u.ResponseWriter, newProblem(status, detail))
}

// Write drops the plain text.
func (u *unmatched) Write(b []byte) (int, error) {
	if !u.done {
		u.WriteHeader(http.StatusNotFound)
	}
	return len(b), nil
}

// writeProblem answers with p outside of an operation's handler.
func writeProblem(w http.ResponseWriter, p *Problem) {
	for k, v := range p.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who went away does not read it
}
