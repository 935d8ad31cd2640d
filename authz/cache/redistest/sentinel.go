package redistest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// MasterName is what the Sentinels of a SentinelSet call their master.
const MasterName = "tollgate"

// SentinelSet is a master and a replica, watched by three Sentinels.
type SentinelSet struct {
	Sentinels []*Server
	Servers   []*Server // the first is the master at the start
	t         testing.TB
}

// SentinelOptions are the lines of the ACL files of the servers and of the
// Sentinels; none lets everybody in.
type SentinelOptions struct{ ACL, SentinelACL []string }

// access returns the lines that let in who must be where there is an ACL.
func access(acl []string, user, password string) []string {
	if len(acl) == 0 {
		return nil
	}
	return []string{user + " " + adminUser, password + " " + adminPassword}
}

// Sentinel starts a set and waits until its replica follows. A master that is
// gone is found out after half a second.
func Sentinel(t testing.TB, o SentinelOptions) *SentinelSet {
	t.Helper()
	set := &SentinelSet{t: t}
	acl := o.ACL
	config := access(acl, "masteruser", "masterauth")
	master := Start(t, Options{ACL: acl, Config: config})
	replica := Start(t, Options{ACL: acl, Config: append(config, fmt.Sprint("replicaof 127.0.0.1 ", master.port))})
	set.Servers = []*Server{master, replica}
	for range 3 {
		set.Sentinels = append(set.Sentinels, start(t, Options{ACL: o.SentinelACL}, func(s *Server) []string {
			s.args = []string{"--sentinel"}
			lines := []string{
				fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", MasterName, master.port),
				"sentinel down-after-milliseconds " + MasterName + " 500",
				"sentinel failover-timeout " + MasterName + " 3000",
			}
			lines = append(lines, access(acl, "sentinel auth-user "+MasterName, "sentinel auth-pass "+MasterName)...)
			return append(lines, access(o.SentinelACL, "sentinel sentinel-user", "sentinel sentinel-pass")...)
		}))
	}
	eventually(t, "replica and Sentinels that know each other", func(ctx context.Context) bool {
		info, err := replica.client.Info(ctx, "replication").Result()
		if err != nil || !strings.Contains(info, "master_link_status:up") {
			return false
		}
		for _, s := range set.Sentinels {
			info, err := s.client.Info(ctx, "sentinel").Result()
			if err != nil || !strings.Contains(info, "slaves=1,sentinels=3") {
				return false
			}
		}
		return true
	})
	return set
}

// Addresses returns those of the Sentinels.
func (s *SentinelSet) Addresses() []string { return addresses(s.Sentinels) }

// Master returns the server that is the master for most Sentinels, and nil
// while that is nobody.
func (s *SentinelSet) Master() *Server {
	votes := map[string]int{}
	for _, sentinel := range s.Sentinels {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		reply, err := sentinel.client.Do(ctx, "sentinel", "get-master-addr-by-name", MasterName).StringSlice()
		cancel()
		if err == nil && len(reply) == 2 {
			votes[net.JoinHostPort(reply[0], reply[1])]++
		}
	}
	for _, server := range s.Servers {
		if votes[server.Addr] >= 2 {
			return server
		}
	}
	return nil
}

// AwaitMaster waits until server is the master and says so itself.
func (s *SentinelSet) AwaitMaster(server *Server) {
	s.t.Helper()
	eventually(s.t, "fail-over to "+server.Addr, func(ctx context.Context) bool {
		role, err := server.client.Do(ctx, "role").Slice()
		return err == nil && len(role) > 0 && role[0] == "master" && s.Master() == server
	})
}

// RedisCluster is three masters, each with a third of the slots.
type RedisCluster struct{ Servers []*Server }

// Cluster starts one and waits until it is whole. Without one of them the others
// serve on. The lines of acl hold at all.
func Cluster(t testing.TB, acl ...string) *RedisCluster {
	t.Helper()
	c := &RedisCluster{}
	var ports []int
	for range 3 {
		c.Servers = append(c.Servers, start(t, Options{ACL: acl}, func(*Server) []string {
			ports = append(ports, freePort(t))
			return []string{"cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no",
				fmt.Sprint("cluster-port ", ports[len(ports)-1])}
		}))
		ports = append(ports[:len(c.Servers)-1], ports[len(ports)-1]) // that of the attempt that succeeded
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const slots = 16384
	for i, s := range c.Servers {
		first, last := i*slots/3, (i+1)*slots/3-1
		if err := s.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.client.Do(ctx, "cluster", "meet", "127.0.0.1", strconv.Itoa(c.Servers[0].port), strconv.Itoa(ports[0])).Err(); i > 0 && err != nil {
			t.Fatal(err)
		}
	}
	c.Await(t)
	return c
}

// Addresses returns those of all nodes.
func (c *RedisCluster) Addresses() []string { return addresses(c.Servers) }

// Await waits until every node finds every slot served.
func (c *RedisCluster) Await(t testing.TB) {
	t.Helper()
	eventually(t, "whole cluster", func(ctx context.Context) bool {
		for _, s := range c.Servers {
			info, err := s.client.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_ok:16384") ||
				!strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
}

func addresses(servers []*Server) []string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr)
	}
	return list
}

// eventually waits until something has come true.
func eventually(t testing.TB, what string, is func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !is(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("no %s in a minute", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
