package rpc

import (
	"context"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"tollgate/keymanager"
)

// serviceName is the full name of the service in keymanager.proto.
const serviceName = "tollgate.keymanager.v1.KeyManager"

// health answers grpc.health.v1 for the whole server: the empty name and that
// of the service mean the same.
type health struct {
	healthpb.UnimplementedHealthServer
	server *Server
}

func (h health) status() *healthpb.HealthCheckResponse {
	select {
	case <-h.server.drain:
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}
	default:
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	}
}

func (h health) known(r *healthpb.HealthCheckRequest) error {
	if r.GetService() != "" && r.GetService() != serviceName {
		return keymanager.Errorf(keymanager.KindNotFound, "no such service")
	}
	return nil
}

// Check implements grpc.health.v1.
func (h health) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	err := h.server.guard(ctx, healthMethod, func(caller) error { return h.known(r) })
	if err != nil {
		return nil, err
	}
	return h.status(), nil
}

// Watch implements grpc.health.v1.
func (h health) Watch(r *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	return h.server.guard(stream.Context(), healthMethod, func(caller) error {
		if err := h.known(r); err != nil {
			return err
		}
		if err := stream.Send(h.status()); err != nil {
			return err
		}
		age := time.NewTimer(h.server.age())
		defer age.Stop()
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-age.C:
			return errChooseAgain
		case <-h.server.drain:
			return stream.Send(h.status())
		}
	})
}
