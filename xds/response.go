package xds

import (
	"context"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// response builds its message when the stream's goroutine asks for it, outside
// the lock. Contents are never changed, so it reads them without.
type response struct {
	kind    kind
	request *discoveryv3.DeltaDiscoveryRequest
	items   []item
	version uint64
	mark    []byte // what marked items end with
	// apart: it is encoded by itself, and the library is given an empty one.
	apart bool
}

// GetDeltaDiscoveryResponse implements cache.DeltaResponse.
func (r *response) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:           r.kind.url(),
		SystemVersionInfo: strconv.FormatUint(r.version, 10),
	}
	if r.apart {
		return out, nil
	}
	for _, it := range r.items {
		if it.sent.value == nil {
			out.RemovedResources = append(out.RemovedResources, it.entry.name)
			continue
		}
		value := it.sent.value
		if it.marked {
			value = append(value[:len(value):len(value)], r.mark...)
		}
		out.Resources = append(out.Resources, &discoveryv3.Resource{
			Name:     it.entry.name,
			Version:  versionString(it.sent.version),
			Resource: &anypb.Any{TypeUrl: r.kind.url(), Value: value},
		})
	}
	return out, nil
}

// GetDeltaRequest implements cache.DeltaResponse.
func (r *response) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest { return r.request }

// GetSystemVersion implements cache.DeltaResponse.
func (r *response) GetSystemVersion() (string, error) { return r.GetResponseVersion(), nil }

// GetResponseVersion implements cache.DeltaResponse.
func (r *response) GetResponseVersion() string { return strconv.FormatUint(r.version, 10) }

// GetNextVersionMap implements cache.DeltaResponse.
func (r *response) GetNextVersionMap() map[string]string { return r.GetReturnedResources() }

// GetReturnedResources implements cache.DeltaResponse. The library would keep
// here what it believes delivered; the log knows better. It may write to the
// map, so each response has its own.
func (r *response) GetReturnedResources() map[string]string { return map[string]string{} }

// GetContext implements cache.DeltaResponse.
func (r *response) GetContext() context.Context { return context.Background() }
