package usage

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"tollgate/envoy"
	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// call is what the two kinds of entries have in different places.
type call struct {
	request        string
	method         string
	status         int
	received, sent uint64 // bytes of bodies
}

// httpRecord reads an entry of the kind that tells of paths and headers too,
// which are left behind.
func httpRecord(e *accesslogv3.HTTPAccessLogEntry) (*store.UsageRecord, error) {
	req, res := e.GetRequest(), e.GetResponse()
	return record(e.GetCommonProperties(), call{
		request: req.GetRequestId(), method: req.GetRequestMethod().String(),
		status:   int(min(res.GetResponseCode().GetValue(), 1000)),
		received: req.GetRequestBodyBytes(), sent: res.GetResponseBodyBytes(),
	})
}

// plainRecord reads an entry of the kind that the listeners of xds send: what
// it says of HTTP is in the tags.
func plainRecord(e *accesslogv3.TCPAccessLogEntry) (*store.UsageRecord, error) {
	common, conn := e.GetCommonProperties(), e.GetConnectionProperties()
	tags := common.GetCustomTags()
	status, err := strconv.ParseUint(tags[envoy.TagStatus], 10, 10)
	if err != nil {
		return nil, errors.New("it has no status")
	}
	return record(common, call{
		request: common.GetStreamId(), method: tags[envoy.TagMethod], status: int(status),
		received: conn.GetReceivedBytes(), sent: conn.GetSentBytes(),
	})
}

// Limits of texts, in bytes.
const (
	maxRequest = 64 // Envoy's are 36 long
	maxText    = 512
)

// record makes a record, or says what is wrong with the entry. At, Gateway and
// Group are for the caller to check and set.
func record(common *accesslogv3.AccessLogCommon, c call) (*store.UsageRecord, error) {
	meta := common.GetMetadata().GetFilterMetadata()[envoy.AuthzMetadata].GetFields()
	text := func(key string) string { return meta[key].GetStringValue() }
	names, fault := flagsOf(common.GetResponseFlags())
	r := &store.UsageRecord{
		At:           common.GetStartTime().AsTime(),
		Request:      c.request,
		Organization: keymanager.OrganizationID(text(envoy.MetaOrganization)),
		API:          keymanager.APIID(tag(common, envoy.TagAPI)),
		APIVersion:   text(envoy.MetaAPIVersion),
		Application:  keymanager.ApplicationID(text(envoy.MetaApplicationID)),
		Subscription: keymanager.SubscriptionID(text(envoy.MetaSubscription)),
		ConsumerKey:  keymanager.ConsumerKey(text(envoy.MetaConsumerKey)),
		KeyType:      keymanager.KeyType(text(envoy.MetaKeyType)),
		Tier:         keymanager.TierName(text(envoy.MetaTier)),
		User:         text(envoy.MetaUser),
		Method:       method(c.method),
		Route:        common.GetRouteName(),
		Status:       c.status,
		Reason:       text(envoy.MetaReason),
		Flags:        names,
		RequestBytes: bounded(c.received), ResponseBytes: bounded(c.sent),
	}
	r.Fault = classify(r.Status, r.Reason, fault, common.GetUpstreamRemoteAddress() != nil)
	if r.Status != 0 && (r.Status < 100 || r.Status > 599) {
		return nil, fmt.Errorf("its status is %d", r.Status)
	}
	if !short(r.Request, maxRequest) {
		return nil, errors.New("the id of its request is no id")
	}
	for _, s := range []string{
		string(r.Organization), string(r.API), r.APIVersion, string(r.Application), string(r.Subscription), string(r.ConsumerKey),
		string(r.KeyType), string(r.Tier), r.User, r.Route, r.Reason,
	} {
		if !short(s, maxText) {
			return nil, errors.New("one of its texts is too long, or no text")
		}
	}
	r.Duration = span(common.GetDuration())
	if r.Duration == 0 { // only when it has ended is the sum known
		r.Duration = span(common.GetTimeToLastDownstreamTxByte())
	}
	if first, last := span(common.GetTimeToFirstUpstreamTxByte()), span(common.GetTimeToLastUpstreamRxByte()); last > first {
		r.Upstream = last - first
	}
	return r, nil
}

// tag returns a custom tag; Envoy writes "-" for what it does not have.
func tag(common *accesslogv3.AccessLogCommon, name string) string {
	if v := common.GetCustomTags()[name]; v != "-" {
		return v
	}
	return ""
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace,
}

// method keeps the methods that there are: a caller can send any word.
func method(m string) string {
	if slices.Contains(methods, m) {
		return m
	}
	return "OTHER"
}

// short reports whether s is at most limit bytes of text in one line.
func short(s string, limit int) bool {
	if len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}

func bounded(n uint64) int64 { return int64(min(n, 1<<53)) } // any JSON reader can count as far

// longest is more than a call can last.
const longest = 31 * 24 * time.Hour

// span reads a duration between 0 and longest.
func span(d *durationpb.Duration) time.Duration {
	if d.GetSeconds() > int64(longest/time.Second) {
		return longest
	}
	return min(max(d.AsDuration(), 0), longest)
}
