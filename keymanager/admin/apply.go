package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tollgate/keymanager"
)

// Document is one document for apply.
type Document struct {
	Kind         string `json:"kind" enum:"Organization,Tier,User,API,Application,Key,Subscription"`
	Organization string `json:"organization,omitempty" doc:"default: that of the request"`
	Name         string `json:"name" doc:"of an API also name/version; of a user also DOMAIN/name; of a key application/keyType"`
	Spec         any    `json:"spec,omitempty" doc:"as in the body of a PUT of the kind"`
}

// ApplyRequest is the body of apply.
type ApplyRequest struct {
	Organization string     `json:"organization,omitempty" doc:"of documents that name none; default: the caller's own, or for administrators of the system: default"`
	DryRun       bool       `json:"dryRun,omitempty" doc:"say what would change, and change nothing"`
	Wait         string     `json:"wait,omitempty" doc:"how long to wait until the gateways of this key manager use the change, at most 60s; default: 250ms" example:"10s"`
	Documents    []Document `json:"documents" doc:"at most 10000"`
}

// ApplyResult is the answer of apply.
type ApplyResult struct {
	DryRun    bool             `json:"dryRun"`
	Created   int              `json:"created"`
	Updated   int              `json:"updated"`
	Unchanged int              `json:"unchanged"`
	Position  string           `json:"position,omitempty" doc:"in the log, of the change; none: gateways need not know of it"`
	Confirmed bool             `json:"confirmed" doc:"the gateways of this key manager use all of the change"`
	Documents []DocumentResult `json:"documents" doc:"in the order of the request"`
}

// DocumentResult says what became of one document.
type DocumentResult struct {
	Document     int          `json:"document" doc:"its index"`
	Kind         string       `json:"kind"`
	Organization string       `json:"organization"`
	Name         string       `json:"name"`
	Action       string       `json:"action" enum:"created,updated,unchanged"`
	Changes      []Difference `json:"changes,omitempty" doc:"of an update: what differs"`
	Rejected     string       `json:"rejected,omitempty" doc:"of an API: why the gateways of this key manager do not use its newest content; what they had before stays in use"`
	Secret       *Issued      `json:"secret,omitempty" doc:"of a key that was made: its first client secret; shown once"`
}

// Limits of apply.
const (
	maxApplyBody  = 16 << 20
	maxDocuments  = 10_000
	maxWait       = time.Minute
	applyTimeout  = 2 * time.Minute
	applyProblems = 1000 // that are told
)

type applyOut struct{ Body ApplyResult }

func mountApply(m *mount) {
	s := m.server
	route(m, operation{
		id: "apply", method: http.MethodPost, path: "/apply", tag: "Apply", maxBody: maxApplyBody, timeout: applyTimeout,
		summary: "Check all documents, and make or change what they describe in one transaction, or nothing",
	}, func(ctx context.Context, in *struct{ Body document[ApplyRequest] }) (*applyOut, error) {
		req, err := in.Body.read()
		if err != nil {
			return nil, err
		}
		out, err := s.apply(ctx, req)
		if err != nil {
			return nil, err
		}
		return &applyOut{Body: *out}, nil
	})
}

// apply checks the documents and writes what they change.
func (s *server) apply(ctx context.Context, req *ApplyRequest) (*ApplyResult, error) {
	c := &checks{}
	wait := duration(c, "/wait", req.Wait, confirmTime)
	if wait < 0 || wait > maxWait {
		c.add("/wait", fmt.Sprintf("must be from 0 to %s", maxWait))
	}
	if len(req.Documents) > maxDocuments {
		c.add("/documents", fmt.Sprintf("holds %d documents; at most %d are allowed", len(req.Documents), maxDocuments))
	}
	if len(c.fields) > 0 {
		return nil, keymanager.Invalid("the request is not valid", c.fields)
	}
	var out *ApplyResult
	pos, err := s.commit(ctx, Conditions{}, func(tx *txn) error {
		b := &batch{tx: tx}
		b.read(req)
		if err := b.plan(ctx); err != nil {
			return err
		}
		if err := b.write(ctx); err != nil {
			return err
		}
		var err error
		if out, err = b.result(req.DryRun); err == nil && req.DryRun {
			err = errDryRun
		}
		return err
	})
	if errors.Is(err, errDryRun) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Confirmed = s.confirm(ctx, pos, wait)
	if pos != (keymanager.Position{}) {
		out.Position = pos.String()
	}
	s.noteRejected(ctx, out)
	return out, nil
}

// noteRejected says of each API among the documents whether gateways of this
// process refuse its newest content.
func (s *server) noteRejected(ctx context.Context, out *ApplyResult) {
	if s.Gateways == nil {
		return
	}
	why := map[keymanager.APIID]string{}
	for _, g := range s.Gateways.States() {
		for _, r := range g.Rejected {
			why[r.API] = r.Reason
		}
	}
	if len(why) == 0 {
		return
	}
	l := newLookup(s.Store)
	for i := range out.Documents {
		d := &out.Documents[i]
		if d.Kind != kindAPI {
			continue
		}
		a, err := l.api(ctx, keymanager.OrganizationID(d.Organization), d.Name)
		if err != nil { // the answer is about what was written, and that is
			continue
		}
		if reason, ok := why[a.ID]; ok {
			d.Rejected, out.Confirmed = reason, false
		}
	}
}
