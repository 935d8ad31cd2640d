package admin

import (
	"context"
	"net/http"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// UsageSum is what was called, summed up.
type UsageSum struct {
	At            *time.Time `json:"at,omitempty" doc:"with a step: when the hour or day begins, in UTC"`
	Key           string     `json:"key" doc:"the value of what is summed up by, of an API and an application its id; unknown: a call of none"`
	Name          string     `json:"name,omitempty" doc:"of an API, with its version, or of an application, if it is still there"`
	Calls         int64      `json:"calls"`
	Failed        int64      `json:"failed" doc:"those that the gateway refused, or could not bring to an end: with a fault class"`
	ServerErrors  int64      `json:"serverErrors" doc:"those answered with 500 or more, by whomever"`
	RequestBytes  int64      `json:"requestBytes" doc:"of bodies"`
	ResponseBytes int64      `json:"responseBytes" doc:"of bodies"`
	P50           float64    `json:"p50" doc:"median of the durations, in milliseconds"`
	P95           float64    `json:"p95" doc:"95 of 100 calls took no longer, in milliseconds"`
}

// UsageRecord is one call.
type UsageRecord struct {
	At            time.Time `json:"at" doc:"when it began"`
	RequestID     string    `json:"requestId,omitempty" doc:"as in x-request-id of the answer"`
	Gateway       string    `json:"gateway" doc:"the Envoy"`
	Group         string    `json:"group" doc:"its gateway group"`
	API           string    `json:"api,omitempty" doc:"id"`
	APIVersion    string    `json:"apiVersion,omitempty"`
	Application   string    `json:"application,omitempty" doc:"id"`
	Subscription  string    `json:"subscription,omitempty" doc:"id"`
	ConsumerKey   string    `json:"consumerKey,omitempty"`
	KeyType       string    `json:"keyType,omitempty"`
	Tier          string    `json:"tier,omitempty"`
	User          string    `json:"user,omitempty"`
	Method        string    `json:"method"`
	Route         string    `json:"route,omitempty"`
	Status        int       `json:"status" doc:"HTTP; 0: the caller went before there was one"`
	Reason        string    `json:"reason,omitempty" doc:"why authz refused"`
	Fault         string    `json:"fault,omitempty" enum:"AUTH,THROTTLED,TARGET_CONNECTIVITY,OTHER" doc:"none: the back end has answered"`
	Flags         string    `json:"flags,omitempty" doc:"Envoy's response flags"`
	RequestBytes  int64     `json:"requestBytes"`
	ResponseBytes int64     `json:"responseBytes"`
	Duration      float64   `json:"duration" doc:"in milliseconds"`
	Upstream      float64   `json:"upstream" doc:"the part of it at the back end"`
}

// unknown is the key of calls that have no value.
const unknown = "unknown"

// UsageQuery asks for a time, and for whose calls.
type UsageQuery struct {
	PageQuery
	From        time.Time `query:"from" doc:"RFC 3339; default: a day before to"`
	To          time.Time `query:"to" doc:"RFC 3339; default: now"`
	API         string    `query:"api" doc:"only calls of this API: its id"`
	Application string    `query:"application" doc:"only calls of this application: its id"`
}

type usageSumIn struct {
	UsageQuery
	By   string `query:"by" enum:"api,application,subscription,consumerKey,tier,user,status,reason,fault,gateway" doc:"default: all in one"`
	Step string `query:"step" enum:"hour,day" doc:"default: the whole time in one"`
}

// maxPieces bounds the hours or days of one answer.
const maxPieces = 1000

// query is what is asked of the store.
func (in *UsageQuery) query(now time.Time, org keymanager.OrganizationID) (store.UsageQuery, error) {
	q := store.UsageQuery{
		Organization: org, From: in.From, To: in.To,
		API: keymanager.APIID(in.API), Application: keymanager.ApplicationID(in.Application),
	}
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	if !q.From.Before(q.To) {
		return q, newProblem(http.StatusBadRequest, "from is not before to")
	}
	return q, nil
}

func mountUsage(m *mount) {
	s := m.server
	sums := func(ctx context.Context, in *usageSumIn) (*pageOut[UsageSum], error) {
		q, err := in.query(s.Now(), requestOf(ctx).organization())
		if err != nil {
			return nil, err
		}
		q.By, q.Step = store.UsageDimension(in.By), map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour}[in.Step]
		if q.Step > 0 && q.To.Sub(q.From)/q.Step > maxPieces {
			return nil, newProblem(http.StatusBadRequest, "the time has more than 1000 steps: ask for less, or for days")
		}
		list, total, err := s.Store.SumUsage(ctx, q, in.page())
		if err != nil {
			return nil, err
		}
		out := &pageOut[UsageSum]{Body: listOf[UsageSum](nil, total, in.PageQuery)}
		for i := range list {
			out.Body.Items = append(out.Body.Items, showSum(&list[i], q.By))
		}
		return out, nil
	}
	route(m, operation{
		id: "get-usage", method: http.MethodGet, path: "/organizations/{org}/usage", tag: "Usage",
		summary: "Sum up the calls of an organization's APIs",
	}, sums)
	route(m, operation{
		id: "get-all-usage", method: http.MethodGet, path: "/usage", tag: "Usage",
		summary: "Sum up the calls of all organizations, and those that matched no API",
	}, sums)
	route(m, operation{
		id: "list-usage-records", method: http.MethodGet, path: "/organizations/{org}/usage/records", tag: "Usage",
		summary: "List single calls of an organization's APIs, the newest first",
	}, func(ctx context.Context, in *UsageQuery) (*pageOut[UsageRecord], error) {
		q, err := in.query(s.Now(), requestOf(ctx).organization())
		if err != nil {
			return nil, err
		}
		list, total, err := s.Store.UsageRecords(ctx, q, in.page())
		if err != nil {
			return nil, err
		}
		out := &pageOut[UsageRecord]{Body: listOf[UsageRecord](nil, total, in.PageQuery)}
		for i := range list {
			out.Body.Items = append(out.Body.Items, showRecord(&list[i]))
		}
		return out, nil
	})
}

func showSum(u *store.UsageSum, by store.UsageDimension) UsageSum {
	out := UsageSum{
		Key: u.Key, Name: u.Name, Calls: u.Calls, Failed: u.Failed, ServerErrors: u.ServerErrors,
		RequestBytes: u.RequestBytes, ResponseBytes: u.ResponseBytes, P50: inMillis(u.P50), P95: inMillis(u.P95),
	}
	if !u.At.IsZero() {
		out.At = &u.At
	}
	if out.Key == "" {
		switch by {
		case store.UsageByNothing, store.UsageByReason, store.UsageByFault: // none is an answer too
		default:
			out.Key = unknown
		}
	}
	return out
}

func showRecord(u *store.UsageRecord) UsageRecord {
	return UsageRecord{
		At: u.At, RequestID: u.Request, Gateway: u.Gateway, Group: u.Group, API: string(u.API), APIVersion: u.APIVersion,
		Application: string(u.Application), Subscription: string(u.Subscription), ConsumerKey: string(u.ConsumerKey),
		KeyType: string(u.KeyType), Tier: string(u.Tier), User: u.User, Method: u.Method, Route: u.Route, Status: u.Status,
		Reason: u.Reason, Fault: string(u.Fault), Flags: u.Flags, RequestBytes: u.RequestBytes, ResponseBytes: u.ResponseBytes,
		Duration: inMillis(u.Duration), Upstream: inMillis(u.Upstream),
	}
}

func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
