package rig

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Wire is a TCP address that leads to another, with the faults of a network on
// demand. A fault lasts until Heal.
type Wire struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// NewWire opens a wire to host:port. It is cut when the test ends.
func NewWire(t testing.TB, upstream string) *Wire {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "wire", FreePorts(t, 1)[0], upstream)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return &Wire{t, proxy}
}

// Address returns host:port.
func (w *Wire) Address() string { return w.proxy.Listen }

// Lead makes the wire lead elsewhere.
func (w *Wire) Lead(upstream string) {
	w.t.Helper()
	if err := w.proxy.Update(&toxiproxy.Proxy{Listen: w.proxy.Listen, Upstream: upstream, Enabled: true}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *Wire) toxic(kind, stream, attributes string) {
	w.t.Helper()
	text := fmt.Sprintf(`{"type":%q,"name":"%s_%s","stream":%q,"attributes":{%s}}`, kind, kind, stream, stream, attributes)
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		w.t.Fatal(err)
	}
}

// Delay holds up every byte of the answers, by d give or take a fifth.
func (w *Wire) Delay(d time.Duration) {
	w.t.Helper()
	w.toxic("latency", "downstream", fmt.Sprintf(`"latency":%d,"jitter":%d`, d.Milliseconds(), d.Milliseconds()/5))
}

// BlackHole swallows every byte, both ways, and closes nothing.
func (w *Wire) BlackHole() {
	w.t.Helper()
	w.toxic("timeout", "upstream", `"timeout":0`)
	w.toxic("timeout", "downstream", `"timeout":0`)
}

// Reset ends every connection with a TCP reset, also new ones.
func (w *Wire) Reset() {
	w.t.Helper()
	w.toxic("reset_peer", "downstream", `"timeout":0`)
	w.toxic("reset_peer", "upstream", `"timeout":0`)
}

// SlowClose holds up the end of each connection.
func (w *Wire) SlowClose(d time.Duration) {
	w.t.Helper()
	w.toxic("slow_close", "downstream", fmt.Sprintf(`"delay":%d`, d.Milliseconds()))
	w.toxic("slow_close", "upstream", fmt.Sprintf(`"delay":%d`, d.Milliseconds()))
}

// Slice cuts the answers into pieces of a byte or two.
func (w *Wire) Slice() {
	w.t.Helper()
	w.toxic("slicer", "downstream", `"average_size":2,"size_variation":1,"delay":10`)
}

// Limit closes each connection after n bytes of answers.
func (w *Wire) Limit(n int) {
	w.t.Helper()
	w.toxic("limit_data", "downstream", fmt.Sprintf(`"bytes":%d`, n))
}

// Cut closes every connection and the address.
func (w *Wire) Cut() { w.proxy.Stop() }

// Heal ends every fault.
func (w *Wire) Heal() {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.Background())
	if err := w.proxy.Start(); err != nil && !strings.Contains(err.Error(), toxiproxy.ErrProxyAlreadyStarted.Error()) {
		w.t.Fatal(err)
	}
}
