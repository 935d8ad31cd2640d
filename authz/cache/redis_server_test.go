//go:build !short

package cache

import (
	"runtime"
	"strings"
	"testing"

	"tollgate/authz/cache/redistest"
)

// The user that the documentation gives an authz, and that of a Sentinel.
const (
	redisUser    = "user tollgate on >pw resetchannels ~tg1:* +getrange +set"
	clusterUser  = redisUser + " +cluster|slots +cluster|shards +command"
	sentinelUser = "user watcher on >pw resetchannels +ping +sentinel|get-master-addr-by-name +sentinel|sentinels +subscribe &+switch-master &+replica-reconf-done"
)

// TestRedisAccess: TLS and a user with few rights are enough, and what is
// missing is told.
func TestRedisAccess(t *testing.T) {
	server := redistest.Start(t, redistest.Options{TLS: true, ACL: []string{redisUser, "user blind on >pw resetchannels ~other:* +getrange +set"}})
	for name, tt := range map[string]struct {
		change func(*RedisServer)
		logs   string // "" = it works
	}{
		"as documented":         {func(*RedisServer) {}, ""},
		"without TLS":           {func(s *RedisServer) { s.TLS = nil }, saysAway},
		"a server nobody knows": {func(s *RedisServer) { s.TLS.RootCAs = nil }, "Check the certificates"},
		"a wrong password":      {func(s *RedisServer) { s.Password = "guess" }, "Check the user name and the password"},
		"nobody":                {func(s *RedisServer) { s.Username, s.Password = "", "" }, "Check the user name and the password"},
		"a user without rights": {func(s *RedisServer) { s.Username = "blind" }, "lacks a right"},
	} {
		t.Run(name, func(t *testing.T) {
			s := RedisServer{Addresses: []string{server.Addr}, Username: "tollgate", Password: "pw", TLS: server.TLS()}
			tt.change(&s)
			client, err := NewRedisClient(s)
			if err != nil {
				t.Fatal(err)
			}
			g := newGateway(t, client, redisKeys(t), newIssuer(), nil)
			if tt.logs == "" {
				g.uses(t)
				return
			}
			g.bypasses(t)
			g.logged(t, tt.logs)
			if log := g.log.String(); strings.Contains(log, "guess") {
				t.Errorf("the log shows a password:\n%s", log)
			}
		})
	}
}

// TestSentinelFailover: verdicts come from the new master, and there is always
// an answer.
func TestSentinelFailover(t *testing.T) {
	set := redistest.Sentinel(t, redistest.SentinelOptions{ACL: []string{redisUser}, SentinelACL: []string{sentinelUser}})
	client, err := NewRedisClient(RedisServer{Mode: RedisSentinel, Addresses: set.Addresses(), MasterName: redistest.MasterName,
		Username: "tollgate", Password: "pw", SentinelUsername: "watcher", SentinelPassword: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, client, redisKeys(t), newIssuer(), nil)
	g.uses(t)
	set.Servers[0].Kill()
	g.bypasses(t)
	g.passes(t, names("meanwhile", 50)...)
	set.AwaitMaster(set.Servers[1])
	g.uses(t)
}

// TestClusterNode: without one master of three, what it had is missed, the rest
// is not, and it comes back.
func TestClusterNode(t *testing.T) {
	cluster := redistest.Cluster(t, clusterUser)
	client, err := NewRedisClient(RedisServer{Mode: RedisCluster, Addresses: cluster.Addresses()[:2], Username: "tollgate", Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, client, redisKeys(t), newIssuer(), nil)
	known := names("known", 60)
	on := func(s *redistest.Server) int { return int(s.Client().DBSize(t.Context()).Val()) }
	eventually(t, "values on every node", func() bool {
		for _, value := range known {
			if _, err := g.Redis.Validate(t.Context(), query(value)); err != nil {
				t.Fatal(err)
			}
		}
		return on(cluster.Servers[0]) > 5 && on(cluster.Servers[1]) > 5 && on(cluster.Servers[2]) > 5
	})
	cluster.Servers[2].Kill()
	hits := g.result(resultHit)
	eventually(t, "hits on the nodes that are left", func() bool {
		g.passes(t, names("unknown", 5)...)
		for _, value := range known {
			if v, err := g.Redis.Validate(t.Context(), query(value)); err != nil || v.TokenID != tokenID(value) {
				t.Fatalf("%s: %v, %v", value, v, err)
			}
		}
		return g.result(resultHit) > hits+20
	})
	cluster.Servers[2].Restart()
	cluster.Await(t)
	eventually(t, "values on the node that is back", func() bool {
		for _, value := range known {
			if _, err := g.Redis.Validate(t.Context(), query(value)); err != nil {
				t.Fatal(err)
			}
		}
		return on(cluster.Servers[2]) > 5
	})
}

// TestRedisHugeValue: whoever may write to Redis without our key cannot exhaust
// the memory of those who read.
func TestRedisHugeValue(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	r := newRedisRig(t, server.Addr, redisKeys(t), always(liveVerdict(1)))
	q := query("t")
	const huge = 64 << 20
	if err := r.client.SetRange(t.Context(), r.keys.current.place(q).name, huge, "x").Err(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.ask(t, q)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > huge/4 || r.result(resultDamaged) != 1 {
		t.Errorf("a look-up allocated %d bytes: %s", n, r.outcomes())
	}
}
