package process

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Admin talks to the admin interface of an Envoy.
type Admin struct {
	address string
	client  *http.Client
}

// NewAdmin returns a client for an address as Envoy writes it: "host:port", or
// the path of a Unix socket.
func NewAdmin(address string) *Admin {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &Admin{address: address, client: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true, // nothing is left open when Envoy stops
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
		},
	}}
}

// Address returns the address given to NewAdmin.
func (a *Admin) Address() string { return a.address }

// Get returns the status and body of GET path; path starts with "/".
func (a *Admin) Get(ctx context.Context, path string) (int, []byte, error) {
	return a.do(ctx, http.MethodGet, path)
}

// Post returns the status and body of POST path.
func (a *Admin) Post(ctx context.Context, path string) (int, []byte, error) {
	return a.do(ctx, http.MethodPost, path)
}

func (a *Admin) do(ctx context.Context, method, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy-admin"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, err
	}
	return res.StatusCode, body, nil
}

// State returns what /ready says: "LIVE", or what Envoy still waits for
// ("PRE_INITIALIZING", "INITIALIZING", "DRAINING").
func (a *Admin) State(ctx context.Context) (string, error) {
	_, body, err := a.Get(ctx, "/ready")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(body)), nil
}

// Listeners returns the addresses that Envoy listens on ("127.0.0.1:31337"),
// by the name of the listener. A port that was configured as 0 is the real one
// here.
func (a *Admin) Listeners(ctx context.Context) (map[string]string, error) {
	status, body, err := a.Get(ctx, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("admin /listeners: status %d", status)
	}
	var doc struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
				Pipe struct {
					Path string `json:"path"`
				} `json:"pipe"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("admin /listeners: %w", err)
	}
	out := make(map[string]string, len(doc.Statuses))
	for _, s := range doc.Statuses {
		if s.Local.Pipe.Path != "" {
			out[s.Name] = s.Local.Pipe.Path
			continue
		}
		out[s.Name] = net.JoinHostPort(s.Local.Socket.Address, strconv.Itoa(s.Local.Socket.Port))
	}
	return out, nil
}
