package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// AuditEntry is one write: who did what, and what was there before and after.
type AuditEntry struct {
	ID           int64           `json:"id"`
	At           time.Time       `json:"at"`
	Actor        string          `json:"actor" doc:"the consumer key that did it, or system"`
	Organization string          `json:"organization"`
	Action       string          `json:"action" enum:"create,update,delete,revoke"`
	Kind         string          `json:"kind"`
	Name         string          `json:"name"`
	Before       json.RawMessage `json:"before,omitempty" doc:"the spec that was there; none: it was made"`
	After        json.RawMessage `json:"after,omitempty" doc:"the spec that is there; none: it was deleted"`
}

func mountAudit(m *mount) {
	s := m.server
	route(m, operation{
		id: "list-audit", method: http.MethodGet, path: "/organizations/{org}/audit", tag: "Audit",
		summary: "List the writes of an organization, the newest first, also of one that was deleted",
	}, func(ctx context.Context, in *listIn) (*pageOut[AuditEntry], error) {
		list, total, err := s.Store.AuditEntries(ctx, requestOf(ctx).organization(), in.page())
		if err != nil {
			return nil, err
		}
		out := &pageOut[AuditEntry]{Body: listOf[AuditEntry](nil, total, in.PageQuery)}
		for _, e := range list {
			out.Body.Items = append(out.Body.Items, AuditEntry{
				ID: e.ID, At: e.At, Actor: e.Actor, Organization: string(e.Organization), Action: e.Action,
				Kind: e.Kind, Name: e.Name, Before: json.RawMessage(e.Before), After: json.RawMessage(e.After),
			})
		}
		return out, nil
	})
}
