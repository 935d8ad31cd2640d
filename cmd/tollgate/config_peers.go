package main

import (
	"net"
	"net/netip"
	"strings"
)

// RPCConfig is how authz and xds reach key managers in other processes.
type RPCConfig struct {
	// Address is where this key manager serves them: HOST:PORT or the path of a
	// socket. "" = rpc.sock in the state folder where authz or xds do not run in
	// this process, else nowhere.
	Address string `yaml:"address"`
	// Servers are the key managers that this process asks, all of them: HOST:PORT
	// or the path of a socket. None: rpc.sock in the state folder.
	Servers    []string `yaml:"servers"`
	ServerName string   `yaml:"server_name"` // in their certificates; "" = the host of each
}

// TLSConfig is who this process is among the others: all four, or none.
type TLSConfig struct {
	CertFile    string `yaml:"cert_file"`
	KeyFile     string `yaml:"key_file"`
	CAFile      string `yaml:"ca_file"`
	TrustDomain string `yaml:"trust_domain"`
}

// enabled reports whether the others are spoken to over TLS.
func (c *TLSConfig) enabled() bool { return c.CertFile != "" }

// RedisConfig is the cache of verdicts that several authz share; none without
// Mode.
type RedisConfig struct {
	Mode                 string         `yaml:"mode"` // single, sentinel, cluster; "" = no Redis
	Addresses            []string       `yaml:"addresses"`
	MasterName           string         `yaml:"master_name"` // Sentinel only
	Username             string         `yaml:"username"`
	Password             Secret         `yaml:"password"`
	PasswordFile         string         `yaml:"password_file"`
	SentinelUsername     string         `yaml:"sentinel_username"`
	SentinelPassword     Secret         `yaml:"sentinel_password"`
	SentinelPasswordFile string         `yaml:"sentinel_password_file"`
	Database             int            `yaml:"database"`
	TLS                  RedisTLSConfig `yaml:"tls"`
	KeyFile              string         `yaml:"key_file"` // "" = redis.key in the state folder
	Timeout              Duration       `yaml:"timeout"`
}

// RedisTLSConfig is TLS to Redis: on with a CA file.
type RedisTLSConfig struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"` // "" = the host of each address
}

// isSocket reports whether an address is the path of a Unix socket.
func isSocket(address string) bool { return strings.HasPrefix(address, "/") }

// isLoopback reports whether only this machine reaches an address.
func isLoopback(address string) bool {
	if isSocket(address) {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
