package main

import (
	"runtime"
	"slices"
	"strings"
	"time"

	"tollgate/xds"
)

// Config is everything that an operator can set: sections of plain values,
// read from one YAML file and then from the environment
// (TOLLGATE_SECTION_KEY). It is the same for every role: a process reads the
// settings of the roles that it runs. A zero Config is not valid; start from
// defaultConfig.
//
// A value of type Secret can be given in a file of its own instead: the key
// with _file behind it.
type Config struct {
	State      StateConfig      `yaml:"state"`
	Log        LogConfig        `yaml:"log"`
	Store      StoreConfig      `yaml:"store"`
	Keys       KeysConfig       `yaml:"keys"`
	KeyManager KeyManagerConfig `yaml:"keymanager"`
	RPC        RPCConfig        `yaml:"rpc"`
	TLS        TLSConfig        `yaml:"tls"`
	Gateway    GatewayConfig    `yaml:"gateway"`
	Authz      AuthzConfig      `yaml:"authz"`
	Redis      RedisConfig      `yaml:"redis"`
	XDS        XDSConfig        `yaml:"xds"`
	Ops        OpsConfig        `yaml:"ops"`
	Envoy      EnvoyConfig      `yaml:"envoy"`
	Sample     SampleConfig     `yaml:"sample"`
}

// StateConfig says where this process keeps its files.
type StateConfig struct {
	Dir string `yaml:"dir"`
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// StoreConfig chooses the system of record: SQLite in the state folder, or
// PostgreSQL when a DSN is given.
type StoreConfig struct {
	DSN            Secret `yaml:"dsn"`
	DSNFile        string `yaml:"dsn_file"`
	MaxConnections int    `yaml:"max_connections"` // PostgreSQL only
}

// KeysConfig names the key files. Empty: in the state folder, made when they
// are missing; a file named here must exist.
type KeysConfig struct {
	TagFile    string `yaml:"tag_file"`
	PepperFile string `yaml:"pepper_file"`
	AdminFile  string `yaml:"admin_file"` // credentials of the administrator
}

// KeyManagerConfig is the HTTP server of the key manager.
type KeyManagerConfig struct {
	Address       string      `yaml:"address"`
	CertFile      string      `yaml:"cert_file"` // with KeyFile: HTTPS
	KeyFile       string      `yaml:"key_file"`
	Socket        string      `yaml:"socket"` // "" = in the state folder
	Issuer        string      `yaml:"issuer"` // "" = http://ADDRESS
	TokenLifetime Duration    `yaml:"token_lifetime"`
	Usage         UsageConfig `yaml:"usage"`
}

// UsageConfig is what the key manager keeps of the calls that Envoys tell of.
type UsageConfig struct {
	Retention Duration `yaml:"retention"`
	Queue     int      `yaml:"queue"` // records that wait for the database
}

// GatewayConfig is the listener that Envoy gets.
type GatewayConfig struct {
	Address     string   `yaml:"address"`
	Group       string   `yaml:"group"`
	Hosts       []string `yaml:"hosts"` // of an API that names none
	TrustedHops int      `yaml:"trusted_hops"`
	CAFile      string   `yaml:"ca_file"`    // PEM, whom https back ends are verified against; "" = the system's
	AccessLog   string   `yaml:"access_log"` // as Envoy sees the file; "" = none
	Usage       bool     `yaml:"usage"`      // Envoys tell the key manager of each call
	// Certificates of the listener are names in xds.certificates; none = clear text.
	Certificates []string `yaml:"certificates"`
}

// AuthzConfig is the decision point and its memory of verdicts.
type AuthzConfig struct {
	Socket            string   `yaml:"socket"`  // "" = in the state folder
	Address           string   `yaml:"address"` // for remote Envoys, with TLS; "" = none
	Cache             string   `yaml:"cache"`   // on, off
	CacheEntries      int      `yaml:"cache_entries"`
	NegativeEntries   int      `yaml:"negative_entries"`
	CacheTTL          Duration `yaml:"cache_ttl"`
	NegativeTTL       Duration `yaml:"negative_ttl"`
	KeyManagerTimeout Duration `yaml:"keymanager_timeout"`
	KeyManagerCalls   int      `yaml:"keymanager_calls"`
	MaxStale          Duration `yaml:"max_stale"`
	Watchdog          Duration `yaml:"watchdog"`
}

// XDSConfig is where Envoy fetches its configuration.
type XDSConfig struct {
	Address      string   `yaml:"address"`       // "" = a socket in the state folder
	AuthzTimeout Duration `yaml:"authz_timeout"` // of an Envoy; then 503
	// Groups are the gateway groups; none = the one of section gateway.
	Groups []GroupConfig `yaml:"groups"`
	// Certificates of listeners, back ends and key managers, by name.
	Certificates map[string]CertificateConfig `yaml:"certificates"`
}

// OpsConfig is the address of health, readiness and metrics, and how the
// process ends.
type OpsConfig struct {
	Address   string   `yaml:"address"`
	DrainWait Duration `yaml:"drain_wait"` // not ready, but still serving
	DrainTime Duration `yaml:"drain_time"` // to finish what has begun
}

// EnvoyConfig is the Envoy that "dev" supervises.
type EnvoyConfig struct {
	Path        string `yaml:"path"` // "" = PATH, then .tools
	Concurrency int    `yaml:"concurrency"`
}

// SampleConfig is where the sample back end of "dev" listens.
type SampleConfig struct {
	Production string `yaml:"production" json:"production"`
	Sandbox    string `yaml:"sandbox" json:"sandbox"`
}

// defaultConfig returns what holds where nothing is set.
func defaultConfig() Config {
	return Config{
		State: StateConfig{Dir: ".tollgate"},
		Log:   LogConfig{Level: "info", Format: "text"},
		Store: StoreConfig{MaxConnections: 4 * max(4, runtime.GOMAXPROCS(0))},
		KeyManager: KeyManagerConfig{
			Address:       "127.0.0.1:9090",
			TokenLifetime: Duration(time.Hour),
			Usage:         UsageConfig{Retention: Duration(30 * 24 * time.Hour), Queue: 20_000},
		},
		Gateway: GatewayConfig{
			Address:   "127.0.0.1:8080",
			Group:     "default",
			Hosts:     []string{"localhost", "127.0.0.1"},
			AccessLog: "/dev/stdout",
		},
		Authz: AuthzConfig{
			Cache:             "on",
			CacheEntries:      100_000,
			NegativeEntries:   4096,
			CacheTTL:          Duration(15 * time.Minute),
			NegativeTTL:       Duration(10 * time.Second),
			KeyManagerTimeout: Duration(400 * time.Millisecond),
			KeyManagerCalls:   64,
			MaxStale:          Duration(300 * time.Second),
			Watchdog:          Duration(10 * time.Second),
		},
		Redis:  RedisConfig{Timeout: Duration(30 * time.Millisecond)},
		XDS:    XDSConfig{AuthzTimeout: Duration(xds.DefaultAuthzTimeout)},
		Ops:    OpsConfig{Address: "127.0.0.1:9091", DrainTime: Duration(5 * time.Second)},
		Envoy:  EnvoyConfig{Concurrency: max(1, runtime.GOMAXPROCS(0)/2)},
		Sample: SampleConfig{Production: "127.0.0.1:9081", Sandbox: "127.0.0.1:9082"},
	}
}

// issuer returns the base URL of the token endpoint (RFC 8414 section 2).
func (c *Config) issuer() string {
	if c.KeyManager.Issuer != "" {
		return strings.TrimRight(c.KeyManager.Issuer, "/")
	}
	scheme := "http://"
	if c.KeyManager.CertFile != "" {
		scheme = "https://"
	}
	return scheme + c.KeyManager.Address
}

// hosts are those of every gateway group that is configured here.
func (c *Config) hosts() []string {
	if len(c.XDS.Groups) == 0 {
		return c.Gateway.Hosts
	}
	var all []string
	for i := range c.XDS.Groups {
		all = append(all, c.XDS.Groups[i].Hosts...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
