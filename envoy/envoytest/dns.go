package envoytest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server on a loopback port. Every name has the same address.
type DNS struct {
	t    testing.TB
	conn net.PacketConn
	wait sync.WaitGroup
	stop chan struct{}

	mu     sync.Mutex
	answer netip.Addr
	delay  time.Duration
	dead   bool
	asked  map[string]int
}

// NewDNS starts a name server that answers 127.0.0.1 at once.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &DNS{
		t: t, conn: conn, stop: make(chan struct{}),
		answer: netip.AddrFrom4([4]byte{127, 0, 0, 1}), asked: map[string]int{},
	}
	d.wait.Go(d.run)
	t.Cleanup(func() {
		close(d.stop)
		_ = conn.Close()
		d.wait.Wait()
	})
	return d
}

// Addr returns ip:port.
func (d *DNS) Addr() string { return d.conn.LocalAddr().String() }

// Delay lets every answer to a later question wait.
func (d *DNS) Delay(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = by
}

// Dead stops the answers, or lets them come again.
func (d *DNS) Dead(dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = dead
}

// Asked returns how often an address of the name ("pets.internal") was asked
// for.
func (d *DNS) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name+"."]
}

func (d *DNS) run() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				d.t.Errorf("name server: %v", err)
			}
			return
		}
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
			continue
		}
		question := q.Questions[0]
		d.mu.Lock()
		if question.Type == dnsmessage.TypeA {
			d.asked[question.Name.String()]++
		}
		dead, delay, answer := d.dead, d.delay, d.answer
		d.mu.Unlock()
		if dead {
			continue
		}
		res := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
			Questions: q.Questions,
		}
		if question.Type == dnsmessage.TypeA { // for AAAA: the name exists, without one
			res.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: answer.As4()},
			}}
		}
		packed, err := res.Pack()
		if err != nil {
			continue
		}
		d.wait.Go(func() {
			select {
			case <-time.After(delay):
				_, _ = d.conn.WriteTo(packed, from)
			case <-d.stop:
			}
		})
	}
}
