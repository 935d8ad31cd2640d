package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"tollgate/keymanager"
)

// Credentials is what a 0600 credentials file holds: where the key manager is
// and who we are there. The secret is in no other place in clear.
type Credentials struct {
	Server         string                 `json:"server"`
	ConsumerKey    keymanager.ConsumerKey `json:"consumer_key"`
	ConsumerSecret Secret                 `json:"consumer_secret"`
}

// LogValue keeps the secret out of structured logs, whose JSON handler would
// look into the fields.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("server", c.Server), slog.String("consumer_key", string(c.ConsumerKey)))
}

// readCredentials reads a credentials file.
func readCredentials(path string) (Credentials, error) {
	var c Credentials
	if err := readPrivateJSON(path, &c); err != nil {
		return Credentials{}, err
	}
	if c.ConsumerKey == "" || c.ConsumerSecret == "" {
		return Credentials{}, fmt.Errorf("%s: consumer_key or consumer_secret is missing", path)
	}
	return c, nil
}

// readSharedCredentials is readCredentials for a file that the operator has put
// there, which the group may read.
func readSharedCredentials(path string) (c Credentials, err error) {
	data, err := readKeyFile(path, true)
	if err != nil {
		return c, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	if c.ConsumerKey == "" || c.ConsumerSecret == "" {
		return Credentials{}, fmt.Errorf("%s: consumer_key or consumer_secret is missing", path)
	}
	return c, nil
}

// checkServer refuses to send a secret in clear text over a network.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("%q is not a URL such as http://127.0.0.1:9090", server)
	}
	host := strings.Trim(u.Hostname(), "[]")
	ip, err := netip.ParseAddr(host)
	if u.Scheme == "http" && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is clear text to another machine: use https", server)
	}
	return nil
}

// serverURL returns the base URL of an address that this process listens on.
func serverURL(address net.Addr) string { return "http://" + address.String() }
