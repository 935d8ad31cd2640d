package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"tollgate/envoy"
	"tollgate/keymanager/store"
)

// entry reads an entry that an Envoy has sent.
func entry[M proto.Message](t *testing.T, name string, m M) M {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// What Envoys sent becomes these records.
func TestRecorded(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ok := store.UsageRecord{
		At: at("2026-11-22T03:40:30.100000Z"), Request: "0a6f7a3e-8d2c-4f53-9d59-0d2f1f6f8a11",
		Organization: "org", API: "orders", APIVersion: "2.0", Application: "app-1", Subscription: "sub-1", ConsumerKey: "key-1",
		KeyType: "PRODUCTION", Tier: "Gold", User: "FOO.COM/jürgen", Method: "POST", Route: "api/orders", Status: 200,
		RequestBytes: 12, ResponseBytes: 345, Duration: 2500 * time.Microsecond, Upstream: time.Millisecond,
	}
	refused := store.UsageRecord{
		At: at("2026-11-22T03:40:32.000000Z"), Request: "b9aeb12e-3874-488d-be31-b8d6780284b9", API: "pets", Method: "GET", Route: "api/pets",
		Status: 401, Reason: "expired", Fault: store.FaultAuth, Flags: "UAEX", ResponseBytes: 5, Duration: 949070 * time.Nanosecond,
	}
	noRoute := store.UsageRecord{
		At: at("2026-11-22T03:40:34.400853Z"), Request: "87429442-51f9-4076-a307-ed9a108510a5", Method: "GET",
		Status: 404, Fault: store.FaultOther, Flags: "NR", ResponseBytes: 117, Duration: 214508 * time.Nanosecond,
	}
	down := ok
	down.Status, down.Fault, down.Flags, down.Upstream = 503, store.FaultTarget, "UF,URX", 0
	for _, tt := range []struct {
		file string
		want store.UsageRecord
	}{
		{"plain_200.json", ok}, {"plain_401.json", refused}, {"plain_404.json", noRoute}, {"plain_503.json", down},
	} {
		t.Run(tt.file, func(t *testing.T) {
			got, err := plainRecord(entry(t, tt.file, &accesslogv3.TCPAccessLogEntry{}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	t.Run("http_401.json", func(t *testing.T) { // has a path, a query, addresses, a referer and headers
		got, err := httpRecord(entry(t, "http_401.json", &accesslogv3.HTTPAccessLogEntry{}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&refused, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestBadEntries(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*accesslogv3.TCPAccessLogEntry)
		ok     bool
	}{
		{"as it was", func(*accesslogv3.TCPAccessLogEntry) {}, true},
		{"empty", func(e *accesslogv3.TCPAccessLogEntry) { proto.Reset(e) }, false},
		{"no status", func(e *accesslogv3.TCPAccessLogEntry) { delete(e.CommonProperties.CustomTags, envoy.TagStatus) }, false},
		{"no response", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.CustomTags[envoy.TagStatus] = "0" }, true},
		{"status 99", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.CustomTags[envoy.TagStatus] = "99" }, false},
		{"status 600", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.CustomTags[envoy.TagStatus] = "600" }, false},
		{"a long request id", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.StreamId = strings.Repeat("a", 65) }, false},
		{"a request id of two lines", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.StreamId = "a\nb" }, false},
		{"a long route", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.RouteName = strings.Repeat("a", 513) }, false},
		{"NUL", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.CustomTags[envoy.TagAPI] = "a\x00" }, false},
		{"a terminal's colours", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.RouteName = "\x1b[31m" }, false},
		{"not UTF-8", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.RouteName = "\xff" }, false},
		{"a number as application", func(e *accesslogv3.TCPAccessLogEntry) {
			e.CommonProperties.Metadata.FilterMetadata[envoy.AuthzMetadata].Fields[envoy.MetaApplicationID] = structpb.NewNumberValue(1)
		}, true},
		{"a long application", func(e *accesslogv3.TCPAccessLogEntry) {
			e.CommonProperties.Metadata.FilterMetadata[envoy.AuthzMetadata].Fields[envoy.MetaApplicationID] = structpb.NewStringValue(strings.Repeat("a", 513))
		}, false},
		{"a method of the caller's own", func(e *accesslogv3.TCPAccessLogEntry) {
			e.CommonProperties.CustomTags[envoy.TagMethod] = strings.Repeat("S3CRET", 100)
		}, true},
		{"a duration below zero and beyond all bounds", func(e *accesslogv3.TCPAccessLogEntry) {
			e.CommonProperties.Duration = durationpb.New(-1)
			e.CommonProperties.TimeToLastUpstreamRxByte = &durationpb.Duration{Seconds: 1 << 62, Nanos: -5}
			e.ConnectionProperties.ReceivedBytes = 1<<64 - 1
		}, true},
		{"a start before all time", func(e *accesslogv3.TCPAccessLogEntry) { e.CommonProperties.StartTime.Seconds = -1 << 62 }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := entry(t, "plain_200.json", &accesslogv3.TCPAccessLogEntry{})
			tt.change(e)
			r, err := plainRecord(e)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if r == nil {
				return
			}
			if len(r.Method) > 10 || r.Duration < 0 || r.Upstream < 0 || r.Upstream > longest || r.RequestBytes < 0 {
				t.Errorf("record %+v", r)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		status int
		reason string
		flags  *accesslogv3.ResponseFlags
		asked  bool
		want   store.FaultClass
	}{
		{200, "", nil, true, ""},
		{200, "", nil, false, ""}, // a preflight
		{404, "", nil, true, ""},  // the back end's own
		{500, "", nil, true, ""},
		{429, "", nil, true, ""},
		{429, "", nil, false, store.FaultThrottled},
		{429, "", &accesslogv3.ResponseFlags{RateLimited: true}, false, store.FaultThrottled},
		{429, "quota", nil, false, store.FaultThrottled},
		{401, "expired", nil, false, store.FaultAuth},
		{403, "insufficient_scope", nil, false, store.FaultAuth},
		{404, "unknown_api", nil, false, store.FaultOther},
		{503, "syncing", nil, false, store.FaultOther},
		{503, "", &accesslogv3.ResponseFlags{UnauthorizedDetails: &accesslogv3.ResponseFlags_Unauthorized{}}, false, store.FaultOther}, // no authz
		{503, "", &accesslogv3.ResponseFlags{UpstreamConnectionFailure: true, UpstreamRetryLimitExceeded: true}, true, store.FaultTarget},
		{504, "", &accesslogv3.ResponseFlags{UpstreamRequestTimeout: true}, true, store.FaultTarget},
		{200, "", &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true, UpstreamConnectionTermination: true}, true, store.FaultTarget},
		{0, "", &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true}, true, store.FaultOther},
		{101, "", &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true}, true, ""},
		{101, "", &accesslogv3.ResponseFlags{UpstreamConnectionTermination: true}, true, ""},
		{0, "", nil, false, store.FaultOther},
		{400, "", nil, false, store.FaultOther},
	} {
		_, byFlags := flagsOf(tt.flags)
		if got := classify(tt.status, tt.reason, byFlags, tt.asked); got != tt.want {
			t.Errorf("%d %q %v asked %t: %q, want %q", tt.status, tt.reason, tt.flags, tt.asked, got, tt.want)
		}
	}
}
