package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client sends unary gRPC calls at the level of frames. Its header block is
// encoded once and re-sent fully indexed, and replies are matched by their
// bytes: 0.4 to 2 µs of CPU a call.
type h2Client struct {
	*client
	inFlight int

	out         []byte // frames to write
	first, rest []byte // header block: first call, and all later ones
	sent        bool
	stream      uint32
	started     []time.Duration // by stream
	epoch       time.Time
	connWindow  int64
	strmWindow  int64
	waiting     int // calls that wait for send window
	received    int64

	dec  *hpack.Decoder
	memo map[string]int // header block → grpc-status, noStatus for headers that are not trailers
}

const noStatus = -1

func newH2Client(c *client, inFlight int) *h2Client {
	h := &h2Client{client: c, inFlight: inFlight, stream: 1, connWindow: 65535, strmWindow: 65535,
		memo: map[string]int{}, dec: hpack.NewDecoder(4096, nil), epoch: time.Now()}
	slots := 1
	for slots < 16*(inFlight+1) {
		slots *= 2
	}
	h.started = make([]time.Duration, slots)

	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	encode := func() []byte {
		buf.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", c.gen.opts.Method}, {":authority", "authz"},
			{"te", "trailers"}, {"content-type", "application/grpc"}, {"grpc-timeout", "500m"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return bytes.Clone(buf.Bytes())
	}
	h.first, h.rest = encode(), encode()

	h.out = append(h.out, http2.ClientPreface...)
	h.frame(12, http2.FrameSettings, 0, 0)
	h.out = append(h.out, 0, 2, 0, 0, 0, 0) // ENABLE_PUSH 0
	h.out = append(h.out, 0, 4, 1, 0, 0, 0) // INITIAL_WINDOW_SIZE 16 MiB
	h.windowUpdate(24 << 20)
	return h
}

func (h *h2Client) frame(n int, t http2.FrameType, flags http2.Flags, stream uint32) {
	h.out = append(h.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	h.out = binary.BigEndian.AppendUint32(h.out, stream)
}

func (h *h2Client) windowUpdate(n uint32) {
	h.frame(4, http2.FrameWindowUpdate, 0, 0)
	h.out = binary.BigEndian.AppendUint32(h.out, n)
}

func (h *h2Client) slot(stream uint32) *time.Duration {
	return &h.started[int(stream>>1)&(len(h.started)-1)]
}

func (h *h2Client) send() {
	p := h.gen.opts.Payloads[h.next]
	n := len(p) + 5
	if h.connWindow < int64(n) || h.strmWindow < int64(n) {
		h.waiting++
		return
	}
	p = h.payload()
	h.connWindow -= int64(n)
	block := h.rest
	if !h.sent {
		block, h.sent = h.first, true
	}
	h.frame(len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, h.stream)
	h.out = append(h.out, block...)
	h.frame(n, http2.FrameData, http2.FlagDataEndStream, h.stream)
	h.out = append(h.out, 0)
	h.out = binary.BigEndian.AppendUint32(h.out, uint32(len(p)))
	h.out = append(h.out, p...)
	*h.slot(h.stream) = time.Since(h.epoch)
	h.stream += 2
}

func (h *h2Client) flush() error {
	if len(h.out) == 0 {
		return nil
	}
	_, err := h.conn.Write(h.out)
	h.out = h.out[:0]
	return err
}

func (h *h2Client) run() error {
	for range h.inFlight {
		h.send()
	}
	if err := h.flush(); err != nil {
		return err
	}
	wrong := map[uint32]string{}
	var head [9]byte
	buf := make([]byte, 64<<10)
	for !h.gen.stopped.Load() {
		if _, err := io.ReadFull(h.reader, head[:]); err != nil {
			return err
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		stream := binary.BigEndian.Uint32(head[5:]) & 0x7fffffff
		if n > len(buf) {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(h.reader, buf[:n]); err != nil {
			return err
		}
		end, bad, err := h.receive(http2.FrameType(head[3]), http2.Flags(head[4]), stream, buf[:n])
		if err != nil {
			return err
		}
		if bad != "" {
			wrong[stream] = bad
		}
		if end {
			h.count(time.Since(h.epoch)-*h.slot(stream), wrong[stream])
			delete(wrong, stream)
			h.send()
		}
		if h.reader.Buffered() < len(head) {
			if err := h.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// receive handles one frame: whether it ended a call, and what was wrong with
// its answer.
func (h *h2Client) receive(t http2.FrameType, flags http2.Flags, stream uint32, b []byte) (end bool, wrong string, err error) {
	switch t {
	case http2.FrameData:
		if h.received += int64(len(b)); h.received > 8<<20 {
			h.windowUpdate(uint32(h.received))
			h.received = 0
		}
		if want := h.gen.opts.Want; want != nil && !bytes.Contains(b, want) {
			wrong = fmt.Sprintf("answer %x", b[:min(len(b), 64)])
		}
		return flags.Has(http2.FlagDataEndStream), wrong, nil
	case http2.FrameHeaders:
		status, err := h.status(b)
		if err != nil {
			return false, "", err
		}
		if flags.Has(http2.FlagHeadersEndStream) && status != 0 {
			wrong = "grpc-status " + strconv.Itoa(status)
		}
		return flags.Has(http2.FlagHeadersEndStream), wrong, nil
	case http2.FrameRSTStream:
		return true, fmt.Sprintf("RST_STREAM %x", b), nil
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			h.settings(b)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			h.frame(8, http2.FramePing, http2.FlagPingAck, 0)
			h.out = append(h.out, b...)
		}
	case http2.FrameWindowUpdate:
		if stream == 0 {
			h.connWindow += int64(binary.BigEndian.Uint32(b))
			for n := h.waiting; n > 0; n-- {
				h.waiting--
				h.send()
			}
		}
	case http2.FrameGoAway:
		return false, "", fmt.Errorf("GOAWAY %q", b)
	}
	return false, "", nil
}

func (h *h2Client) settings(b []byte) {
	for ; len(b) >= 6; b = b[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(b)) == http2.SettingInitialWindowSize {
			h.strmWindow = int64(binary.BigEndian.Uint32(b[2:]))
		}
	}
	h.frame(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

// status returns the grpc-status of a header block, noStatus when it has none.
// Blocks that only name table entries mean the same each time: remembered.
func (h *h2Client) status(block []byte) (int, error) {
	if s, ok := h.memo[string(block)]; ok {
		return s, nil
	}
	fields, err := h.dec.DecodeFull(block)
	if err != nil {
		return 0, err
	}
	status := noStatus
	for _, f := range fields {
		switch {
		case f.Name == "grpc-status":
			if status, err = strconv.Atoi(f.Value); err != nil {
				return 0, err
			}
		case f.Name == ":status" && f.Value != "200":
			return 0, fmt.Errorf("HTTP status %s", f.Value)
		}
	}
	for _, x := range block {
		if x&0x80 == 0 || x == 0xff { // a literal changes the table
			clear(h.memo)
			return status, nil
		}
	}
	h.memo[string(block)] = status
	return status, nil
}
