package cache

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisMode is how the servers of a RedisServer belong together.
type RedisMode string

// The modes of a RedisServer.
const (
	RedisSingle   RedisMode = "single"   // one server
	RedisSentinel RedisMode = "sentinel" // the addresses are Sentinels, who know the master
	RedisCluster  RedisMode = "cluster"  // the addresses are some nodes of a cluster
)

const (
	// DefaultRedisPoolSize is the number of connections to each server.
	DefaultRedisPoolSize = 16

	maxRedisPoolSize = 1024
	// redisIOTimeout bounds what has no deadline of its own: making a
	// connection, and asking Sentinels and the cluster who is who.
	redisIOTimeout = time.Second
)

// RedisServer says which Redis it is and how to get in.
type RedisServer struct {
	Mode       RedisMode // "" = RedisSingle
	Addresses  []string  // HOST:PORT; a single server may be the absolute path of a Unix socket
	MasterName string    // with Sentinel

	Username, Password                 string // of an ACL user; no Username = "default"
	SentinelUsername, SentinelPassword string
	Database                           int         // not with a cluster
	TLS                                *tls.Config // nil = plaintext; of Sentinels too
	PoolSize                           int         // connections to each server at most; 0 = DefaultRedisPoolSize
}

// NewRedisClient returns a client that never waits longer than the context of a
// call, tries nothing twice, and keeps no more than PoolSize connections. It
// connects when it is used. An error names the field that is wrong. The library's own
// log, which is one for the process and goes to standard error, is switched
// off: what matters in it comes as the error of a call.
func NewRedisClient(s RedisServer) (redis.UniversalClient, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	logging.Disable()
	o := &redis.UniversalOptions{
		Addrs: slices.Clone(s.Addresses), DB: s.Database, MasterName: s.MasterName,
		Username: s.Username, Password: s.Password,
		SentinelUsername: s.SentinelUsername, SentinelPassword: s.SentinelPassword,
		// RESP2 and no identity: the handshake is AUTH and SELECT, if those are
		// needed at all, and a user needs no right for it.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// A context ends every wait; nothing is tried again.
		ContextTimeoutEnabled: true,
		MaxRetries:            -1, MinRetryBackoff: -1, MaxRetryBackoff: -1,
		DialerRetries: 1, DialerRetryTimeout: time.Millisecond,
		DialTimeout: redisIOTimeout, ReadTimeout: redisIOTimeout, WriteTimeout: redisIOTimeout, PoolTimeout: redisIOTimeout,
		PoolSize: cmp.Or(s.PoolSize, DefaultRedisPoolSize), MaxActiveConns: cmp.Or(s.PoolSize, DefaultRedisPoolSize),
		PipelinePoolSize: -1, // pipelines use the same connections
		// Verdicts are small.
		ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10,
		ConnMaxIdleTime: 5 * time.Minute,
	}
	if s.TLS != nil {
		o.TLSConfig = s.TLS.Clone()
	}
	switch s.Mode {
	case RedisSentinel:
		return redis.NewFailoverClient(o.Failover()), nil
	case RedisCluster:
		c := o.Cluster()
		c.MaxRedirects = 2 // a moved slot is found; a dead node is not waited for
		return redis.NewClusterClient(c), nil
	default:
		return redis.NewClient(o.Simple()), nil
	}
}

func (s *RedisServer) check() error {
	single := s.Mode == RedisSingle || s.Mode == ""
	switch {
	case !single && s.Mode != RedisSentinel && s.Mode != RedisCluster:
		return fmt.Errorf("mode: want %s, %s or %s, got %q", RedisSingle, RedisSentinel, RedisCluster, s.Mode)
	case len(s.Addresses) == 0:
		return errors.New("addresses: want one at least")
	case single && len(s.Addresses) > 1:
		return fmt.Errorf("addresses: mode %s has one, got %d", RedisSingle, len(s.Addresses))
	}
	for i, a := range s.Addresses {
		if single && strings.HasPrefix(a, "/") {
			continue
		}
		host, port, err := net.SplitHostPort(a)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil || n == 0 {
			return fmt.Errorf("addresses[%d]: want HOST:PORT, got %q", i, a)
		}
	}
	switch {
	case s.Mode == RedisSentinel && s.MasterName == "":
		return errors.New("master_name: want the name of the master that the Sentinels watch")
	case s.Mode != RedisSentinel && s.MasterName != "":
		return fmt.Errorf("master_name: only for mode %s", RedisSentinel)
	case s.Mode != RedisSentinel && (s.SentinelUsername != "" || s.SentinelPassword != ""):
		return fmt.Errorf("sentinel_username, sentinel_password: only for mode %s", RedisSentinel)
	case s.Username != "" && s.Password == "":
		return errors.New("password: a username needs one")
	case s.SentinelUsername != "" && s.SentinelPassword == "":
		return errors.New("sentinel_password: a sentinel_username needs one")
	case s.Database < 0:
		return fmt.Errorf("database: want a number from 0, got %d", s.Database)
	case s.Mode == RedisCluster && s.Database != 0:
		return errors.New("database: a cluster has only 0")
	case s.PoolSize < 0 || s.PoolSize > maxRedisPoolSize:
		return fmt.Errorf("pool_size: want 1 to %d, got %d", maxRedisPoolSize, s.PoolSize)
	}
	return nil
}
