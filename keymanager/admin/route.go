package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// mount is where the nouns put their operations while New runs.
type mount struct {
	*server
	api  huma.API
	seen map[string]bool // operations
	err  error           // the first mistake
}

// operation is what is said of a route beside its types.
type operation struct {
	id       string // also the row of rights
	method   string
	path     string // below Prefix
	root     bool   // path is not below Prefix
	tag      string
	summary  string
	status   int           // of success; 0: 200, or 204 without a body
	maxBody  int64         // bytes; 0: 1 MiB
	timeout  time.Duration // of the whole request; 0: requestTimeout
	makes    bool          // it can answer 201 instead of 200
	bodyless bool          // an empty body is as good as {}
	reads    []string      // media types of a body that is not JSON of a schema
}

const (
	requestTimeout = 15 * time.Second
	maxBody        = 1 << 20
)

var pathParam = regexp.MustCompile(`\{([a-zA-Z]+)\}`)

// route mounts one operation. Its errors are keymanager.Errors or Problems;
// anything else is internal, and logged.
func route[I, O any](m *mount, op operation, handle func(ctx context.Context, in *I) (*O, error)) {
	r, known := rights[op.id]
	if !known || m.seen[op.id] {
		m.err = errors.Join(m.err, fmt.Errorf("admin: operation %q has no row of its own in the table of rights", op.id))
		return
	}
	m.seen[op.id] = true
	if op.timeout == 0 {
		op.timeout = requestTimeout
	}
	if op.maxBody == 0 {
		op.maxBody = maxBody
	}
	path := Prefix + op.path
	if op.root {
		path = op.path
	}
	h := huma.Operation{
		OperationID: op.id, Method: op.method, Path: path,
		Summary: op.summary, Tags: []string{op.tag}, DefaultStatus: op.status,
		Description:      "Needs one of the scopes " + joined(r.wanted()) + ".",
		SkipValidateBody: true, MaxBodyBytes: op.maxBody,
		// A deadline of the connection outlives the reading of the body, so it
		// must not come before the handler's own.
		BodyReadTimeout: 2 * op.timeout,
		Errors:          []int{400, 401, 403, 404, 503},
		Responses:       map[string]*huma.Response{},
		Metadata:        map[string]any{"timeout": op.timeout},
		Security:        []map[string][]string{{"accessToken": texts(r.wanted())}},
	}
	if op.method != http.MethodGet && op.method != http.MethodDelete {
		h.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{}}
		for _, mt := range op.reads {
			h.RequestBody.Content[mt] = &huma.MediaType{Schema: &huma.Schema{}}
		}
	}
	if r.system {
		h.Description = fmt.Sprintf("Needs the scope %s and an application of the organization %s.", keymanager.ScopeAdmin, SystemOrganization)
	}
	if op.method != http.MethodGet {
		h.Errors = append(h.Errors, 409, 412, 413, 415, 422)
	}
	for _, name := range pathParam.FindAllStringSubmatch(op.path, -1) {
		h.Parameters = append(h.Parameters, &huma.Param{Name: name[1], In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	huma.Register(m.api, h, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(urgency(ctx, op.method), in)
		if err != nil {
			return nil, m.explain(ctx, op.id, err)
		}
		return out, nil
	})
	if ok := h.Responses["200"]; op.makes && ok != nil {
		made := *ok
		made.Description = http.StatusText(http.StatusCreated)
		h.Responses["201"] = &made
	}
	for _, mt := range op.reads { // huma calls the first one binary data
		h.RequestBody.Content[mt].Schema = &huma.Schema{Description: "a document"}
	}
	if op.bodyless {
		h.RequestBody.Required = false
	}
}

// urgency marks what a request does: a revocation goes before, a list behind
// all else.
func urgency(ctx context.Context, method string) context.Context {
	switch method {
	case http.MethodDelete:
		return store.Urgent(ctx)
	case http.MethodGet:
		return store.Patient(ctx)
	}
	return ctx
}

// explain turns an error into what the client is told.
func (s *server) explain(ctx context.Context, op string, err error) error {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	e, ok := errors.AsType[*keymanager.Error](err)
	if !ok {
		e = &keymanager.Error{Kind: keymanager.KindInternal}
	}
	switch {
	case ctx.Err() != nil:
		s.Logger.WarnContext(ctx, "management request ended early", "operation", op, "error", err)
		return unavailable()
	case e.Kind == keymanager.KindUnavailable:
		s.Logger.WarnContext(ctx, "management request: storage not available", "operation", op, "error", err)
	case e.Kind == keymanager.KindInternal:
		s.Logger.ErrorContext(ctx, "management request failed", "operation", op, "error", err)
	}
	return problemOf(e)
}

func timeoutOf(op *huma.Operation) time.Duration {
	d, _ := op.Metadata["timeout"].(time.Duration)
	return d
}

// mediaTypes lists what an operation reads.
func mediaTypes(op *huma.Operation) string {
	return strings.Join(slices.Sorted(maps.Keys(op.RequestBody.Content)), " or ")
}

// texts is the inverse of named. Of nothing both make nil.
func texts[T ~string](list []T) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func named[T ~string](list []string) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = T(v)
	}
	return out
}

func joined[T ~string](list []T) string { return strings.Join(texts(list), ", ") }
