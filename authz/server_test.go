package authz

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestCheckOverGRPC is one request through a stock client: the codec must fit
// Envoy's wire in both directions and leave other services alone.
func TestCheckOverGRPC(t *testing.T) {
	r := newRig(t, nil).run(t)
	r.grant(nil)
	client, conn := r.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	ok, err := client.Check(ctx, call{path: envoyPath + "/items/7?x=1", headers: []string{"authorization", "Bearer " + goodToken}}.message())
	must(t, err)
	if ok.GetStatus().GetCode() != int32(codes.OK) || ok.GetOkResponse() == nil {
		t.Errorf("allowed request is answered with %v", ok)
	}
	denied, err := client.Check(ctx, call{path: envoyPath + "/items/7"}.message())
	must(t, err)
	if got := denied.GetDeniedResponse().GetStatus().GetCode(); got != 401 {
		t.Errorf("request without a credential is answered with %v", denied)
	}
	h, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: serviceName})
	must(t, err)
	if h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %v", h.GetStatus())
	}
}
