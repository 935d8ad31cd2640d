package cache

import (
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
)

func TestRedisServerChecks(t *testing.T) {
	one, three := []string{"127.0.0.1:6379"}, []string{"a:1", "b:2", "[::1]:3"}
	for name, tt := range map[string]struct {
		server RedisServer
		want   string // "" = taken
	}{
		"one":                           {RedisServer{Addresses: one}, ""},
		"a socket":                      {RedisServer{Mode: RedisSingle, Addresses: []string{"/run/redis.sock"}, Database: 3}, ""},
		"Sentinels":                     {RedisServer{Mode: RedisSentinel, Addresses: three, MasterName: "m", SentinelUsername: "u", SentinelPassword: "p"}, ""},
		"a cluster":                     {RedisServer{Mode: RedisCluster, Addresses: three, Username: "u", Password: "p"}, ""},
		"a cluster, one address":        {RedisServer{Mode: RedisCluster, Addresses: one}, ""},
		"nothing":                       {RedisServer{}, "addresses:"},
		"no such mode":                  {RedisServer{Mode: "ring", Addresses: one}, "mode:"},
		"two":                           {RedisServer{Addresses: three}, "addresses:"},
		"no port":                       {RedisServer{Addresses: []string{"localhost"}}, "addresses[0]:"},
		"port 0":                        {RedisServer{Mode: RedisCluster, Addresses: []string{"a:1", "a:0"}}, "addresses[1]:"},
		"no host":                       {RedisServer{Addresses: []string{":6379"}}, "addresses[0]:"},
		"a URL":                         {RedisServer{Addresses: []string{"redis://a:1"}}, "addresses[0]:"},
		"a socket in a cluster":         {RedisServer{Mode: RedisCluster, Addresses: []string{"/run/redis.sock"}}, "addresses[0]:"},
		"Sentinels of nobody":           {RedisServer{Mode: RedisSentinel, Addresses: three}, "master_name:"},
		"a master without Sentinels":    {RedisServer{Addresses: one, MasterName: "m"}, "master_name:"},
		"a Sentinel's password alone":   {RedisServer{Addresses: one, SentinelPassword: "p"}, "sentinel_password:"},
		"a user without a password":     {RedisServer{Addresses: one, Username: "u"}, "password:"},
		"a Sentinel's without password": {RedisServer{Mode: RedisSentinel, Addresses: three, MasterName: "m", SentinelUsername: "u"}, "sentinel_password:"},
		"database -1":                   {RedisServer{Addresses: one, Database: -1}, "database:"},
		"a database of a cluster":       {RedisServer{Mode: RedisCluster, Addresses: three, Database: 1}, "database:"},
		"too many connections":          {RedisServer{Addresses: one, PoolSize: 2000}, "pool_size:"},
		"fewer than none":               {RedisServer{Addresses: one, PoolSize: -1}, "pool_size:"},
	} {
		client, err := NewRedisClient(tt.server)
		if err == nil {
			client.Close()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestRedisOptionsChecks(t *testing.T) {
	client, err := NewRedisClient(RedisServer{Addresses: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	good := RedisOptions{Next: &validator{}, Client: client, Keys: redisKeys(t), Now: newClock().Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler)}
	if _, err := NewRedis(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*RedisOptions){
		"no Next":                  func(o *RedisOptions) { o.Next = nil },
		"no Client":                func(o *RedisOptions) { o.Client = nil },
		"no Keys":                  func(o *RedisOptions) { o.Keys = nil },
		"zero Keys":                func(o *RedisOptions) { o.Keys = new(RedisKeys) },
		"no Now":                   func(o *RedisOptions) { o.Now = nil },
		"no Rand":                  func(o *RedisOptions) { o.Rand = nil },
		"no Logger":                func(o *RedisOptions) { o.Logger = nil },
		"a timeout too short":      func(o *RedisOptions) { o.Timeout = 19 * time.Millisecond },
		"a timeout too long":       func(o *RedisOptions) { o.Timeout = 51 * time.Millisecond },
		"a negative life":          func(o *RedisOptions) { o.TTL = -1 },
		"a negative negative life": func(o *RedisOptions) { o.NegativeTTL = -1 },
	} {
		o := good
		change(&o)
		if _, err := NewRedis(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestRedisKeyFiles(t *testing.T) {
	const (
		head = redisKeysHeading + "\n"
		a    = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
		b    = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
	)
	for name, tt := range map[string]struct{ file, want string }{
		"one key":              {head + "current 1 " + a, ""},
		"two keys":             {head + "# x\n\ncurrent 2 " + a + "\r\nprevious 1 " + b + "\n", ""},
		"previous first":       {head + "previous 255 " + b + "\ncurrent 1 " + a, ""},
		"empty":                {"", "line 1: want \"tollgate-redis-keys 1\""},
		"another kind of file": {"tollgate-tag-keys 1\ncurrent 1 " + a, "line 1: want"},
		"no key":               {head, "want a line \"current"},
		"previous alone":       {head + "previous 1 " + a, "want a line \"current"},
		"unknown role":         {head + "next 1 " + a, "line 2: want current or previous"},
		"two spaces":           {head + "current  1 " + a, "line 2: want three fields"},
		"id 0":                 {head + "current 0 " + a, "line 2: want an id"},
		"id 256":               {head + "current 256 " + a, "line 2: want an id"},
		"short":                {head + "current 1 " + a[2:], "line 2: want a key of 64"},
		"not hexadecimal":      {head + "# c\ncurrent 1 x" + a[1:], "line 3: the key has characters"},
		"zeros":                {head + "current 1 " + strings.Repeat("0", 64), "line 2: the key is all zeros"},
		"twice":                {head + "current 1 " + a + "\ncurrent 2 " + b, "line 3: a second current"},
		"one id":               {head + "current 1 " + a + "\nprevious 1 " + b, "both keys have id 1"},
		"one key twice":        {head + "current 1 " + a + "\nprevious 2 " + a, "both keys are the same"},
		"too long":             {head + strings.Repeat("#\n", 4096), "at most"},
	} {
		keys, err := ParseRedisKeys([]byte(tt.file))
		if tt.want == "" && (err != nil || keys.current == nil) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), a[4:20]) || strings.Contains(err.Error(), b[4:20])) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	file := keyFile(t)
	for range 300 { // also past id 255
		var err error
		if file, err = RotateRedisKeys(file, rand.Reader); err != nil {
			t.Fatal(err)
		}
		if keys := parseKeys(t, file); keys.previous == nil {
			t.Fatal("a rotated file has no previous key")
		}
	}
}

// TestRedisBreaker: what is away costs nothing after a few failures, whether
// many ask or few, and says so once.
func TestRedisBreaker(t *testing.T) {
	server := miniredis.RunT(t)
	address := server.Addr()
	client, err := NewRedisClient(RedisServer{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRedisRigWith(t, client, redisKeys(t), always(liveVerdict(1)), func(r *redisRig) { r.now = time.Now })
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.Redis)
	gauge := func(name string) float64 { return gaugeOf(t, reg, name) }
	eventually(t, "Redis found before anybody asks", func() bool { return gauge("tollgate_redis_up") == 1 })
	eventually(t, "hit", func() bool { r.ask(t, query("t")); return r.result(resultHit) > 0 })
	server.Close()
	r.ask(t, query("one")) // the probes do the rest
	eventually(t, "open breaker", func() bool { r.ask(t, query("one")); return gauge("tollgate_redis_up") == 0 })
	asked := r.result(resultError) + r.result(resultTimeout) + r.result(resultMiss)
	for range 100 {
		r.ask(t, query("two"))
	}
	if n := r.result(resultError) + r.result(resultTimeout) + r.result(resultMiss); n != asked {
		t.Errorf("%d look-ups were tried with the breaker open", n-asked)
	}
	eventually(t, "server on its old port", func() bool { return server.StartAddr(address) == nil })
	eventually(t, "closed breaker", func() bool { return gauge("tollgate_redis_up") == 1 })
	hits := r.result(resultHit)
	eventually(t, "hit again", func() bool { r.ask(t, query("t")); return r.result(resultHit) > hits })
}

func gaugeOf(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// TestRedisNeverThere: what has never answered is not up, and somebody is told
// of it though nobody asks.
func TestRedisNeverThere(t *testing.T) {
	server := miniredis.RunT(t)
	address := server.Addr()
	server.Close()
	client, err := NewRedisClient(RedisServer{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRedisRigWith(t, client, redisKeys(t), always(liveVerdict(1)), func(r *redisRig) { r.now = time.Now })
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.Redis)
	if up := gaugeOf(t, reg, "tollgate_redis_up"); up != 0 {
		t.Errorf("up is %v before it was found", up)
	}
	eventually(t, "a line that Redis fails", func() bool { return strings.Contains(r.log.String(), "Redis fails or is slow") })
	if up := gaugeOf(t, reg, "tollgate_redis_up"); up != 0 {
		t.Errorf("up is %v of a Redis that is not there", up)
	}
	eventually(t, "server on its port", func() bool { return server.StartAddr(address) == nil })
	eventually(t, "up", func() bool { return gaugeOf(t, reg, "tollgate_redis_up") == 1 })
	if v := r.ask(t, query("t")); v == nil {
		t.Error("no verdict")
	}
}
