package rpc_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"tollgate/keymanager"
	"tollgate/keymanager/keymanagertest"
	"tollgate/keymanager/rpc"
)

// BenchmarkValidate asks over a Unix socket, many at once; bare is the least
// that grpc-go does on the same socket: an empty message there and back.
func BenchmarkValidate(b *testing.B) {
	k, all := fake(b)
	k.SetVerdict(someQuery.Credential, "", keymanagertest.ActiveVerdict(1, time.Now()))
	target := listen(b, "unix", all)
	parallel := func(b *testing.B, call func(context.Context) error) {
		b.Helper()
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			for p.Next() {
				if err := call(ctx); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.Run("key manager", func(b *testing.B) {
		c := dial(b, rpc.ClientOptions{Targets: []string{target}})
		parallel(b, func(ctx context.Context) error {
			v, err := c.Validate(ctx, someQuery)
			if err == nil && v.Reason != keymanager.ReasonActive {
				b.Errorf("answer is %+v", v)
			}
			return err
		})
	})
	b.Run("bare", func(b *testing.B) {
		conn, err := grpc.NewClient("passthrough:///bare", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", target)
			}))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		health := healthpb.NewHealthClient(conn)
		parallel(b, func(ctx context.Context) error {
			_, err := health.Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		})
	})
}
