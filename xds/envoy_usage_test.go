//go:build !short

package xds_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"tollgate/envoy"
	"tollgate/envoy/bootstrap"
	"tollgate/envoy/envoytest"
	"tollgate/xds"
)

// usageGateway is a gateway whose Envoy sends usage records to log.
func usageGateway(t *testing.T, log *envoytest.AccessLog) *gateway {
	t.Helper()
	return newGateway(t, setup{
		group:     func(g *xds.Group) { g.Usage = true },
		bootstrap: func(o *bootstrap.Options) { o.AccessLog = log.Path() },
	})
}

// recorded waits for the record of an answer, and checks that it is the only
// one.
func recorded(t *testing.T, log *envoytest.AccessLog, r envoytest.Reply) *accesslogv3.TCPAccessLogEntry {
	t.Helper()
	id := r.Header.Get("X-Request-Id")
	var found []*accesslogv3.TCPAccessLogEntry
	envoytest.Eventually(t, func() error {
		found = nil
		for _, e := range log.Entries() {
			if e.GetCommonProperties().GetStreamId() == id {
				found = append(found, e)
			}
		}
		if len(found) == 0 {
			return fmt.Errorf("no record of request %q", id)
		}
		return nil
	})
	if len(found) != 1 {
		t.Errorf("request %q has %d records", id, len(found))
	}
	return found[0]
}

// What Envoy tells of a call is who called what and how it went, and nothing
// that could be a credential.
func TestUsageRecords(t *testing.T) {
	log := envoytest.NewAccessLog(t)
	g := usageGateway(t, log)
	allowed := envoytest.OK("x-tollgate-user", "alice")
	allowed.DynamicMetadata = envoytest.Metadata(envoy.MetaApplicationID, "app-1", envoy.MetaSubscription, "sub-1", envoy.MetaOrganization, "org", envoy.MetaTier, "Gold")
	refused := envoytest.Deny(401, "no")
	refused.DynamicMetadata = envoytest.Metadata(envoy.MetaReason, "expired", envoy.MetaApplicationID, "app-1")
	undecided := envoytest.Undecided(503, "later")
	undecided.DynamicMetadata = envoytest.Metadata(envoy.MetaReason, "syncing")
	const secret = "S3CRET-"
	headers := []string{"Authorization: Bearer " + secret + "bearer", "apikey: " + secret + "header", "Referer: https://x/?access_token=" + secret + "referer",
		"User-Agent: " + secret + "agent", "Cookie: " + secret + "cookie"}
	for _, tt := range []struct {
		name               string
		answer             envoytest.Answer
		target             string
		status, api        string
		app, reason, route string
	}{
		{"200", envoytest.Answer{Response: allowed}, "/orders/2.0/x", "200", "orders", "app-1", "", "api/orders"},
		{"401", envoytest.Answer{Response: refused}, "/pets/1.0.0/x", "401", "pets", "app-1", "expired", "api/pets"},
		{"503 of authz", envoytest.Answer{Response: undecided}, "/pets/1.0.0/x", "503", "pets", "", "syncing", "api/pets"},
		{"404 without a route", envoytest.Answer{Response: allowed}, "/nothing/1.0/x", "404", "", "", "", ""},
		{"400 of the path", envoytest.Answer{Response: allowed}, "/orders%2f2.0/x", "400", "", "", "", ""},
	} {
		t.Run("E46 "+tt.name, func(t *testing.T) {
			g.authz.Answer(tt.answer)
			r := g.get(t, tt.target+"?apikey="+secret+"query&access_token="+secret+"token", headers...)
			e := recorded(t, log, r)
			c := e.GetCommonProperties()
			meta := c.GetMetadata().GetFilterMetadata()[envoy.AuthzMetadata].GetFields()
			got := fmt.Sprint(c.GetCustomTags()[envoy.TagStatus], c.GetCustomTags()[envoy.TagAPI], meta[envoy.MetaApplicationID].GetStringValue(), meta[envoy.MetaReason].GetStringValue(), c.GetRouteName())
			if want := fmt.Sprint(tt.status, tt.api, tt.app, tt.reason, tt.route); got != want || c.GetCustomTags()[envoy.TagMethod] != "GET" {
				t.Errorf("recorded %q, want %q", got, want)
				t.Logf("%s", protojson.Format(e))
			}
			if c.GetDuration().AsDuration() <= 0 || e.GetConnectionProperties().GetSentBytes() == 0 {
				t.Errorf("no duration or no size: %s", protojson.Format(e))
			}
		})
	}
	raw := log.Raw()
	for _, word := range []string{secret, "access_token", "apikey", "uthorization", "/orders/2.0", "/nothing"} {
		if i := bytes.Index(raw, []byte(word)); i >= 0 {
			t.Errorf("%q is in what Envoy sent: %q", word, raw[max(0, i-40):min(len(raw), i+40)])
		}
	}
}

// Without a receiver calls are answered as ever, and Envoy's counters say that
// it tells nobody; when one is back, it is told of the calls from then on.
func TestUsageReceiverAway(t *testing.T) {
	log := envoytest.NewAccessLog(t)
	g := usageGateway(t, log)
	g.authz.Allow(envoytest.OK())
	call := func() envoytest.Reply {
		return g.try(t, want{200, "orders", "/orders/2.0/x", "orders", "/orders/2.0/x"}, func() envoytest.Reply { return g.get(t, "/orders/2.0/x") })
	}
	recorded(t, log, call())
	log.Stop()
	envoytest.Eventually(t, func() error {
		call()
		if g.envoy.Stat("cluster.accesslog.upstream_cx_connect_fail") == 0 {
			return errors.New("Envoy does not count that it cannot connect")
		}
		return nil
	})
	log.Start()
	after := map[string]bool{}
	envoytest.Eventually(t, func() error {
		after[call().Header.Get("X-Request-Id")] = true
		for _, e := range log.Entries() {
			if after[e.GetCommonProperties().GetStreamId()] {
				return nil
			}
		}
		return errors.New("no further record came")
	})
	// What is lost is the difference.
	if sent, came := g.envoy.Stat("access_logs.grpc_access_log.grpc_entries_flushed"), len(log.Entries()); sent <= uint64(came) {
		t.Errorf("Envoy counts %d records sent, and %d came: none was lost?", sent, came)
	}
}
