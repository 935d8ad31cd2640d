package rpc

import (
	"context"

	"tollgate/keymanager"
	pb "tollgate/keymanager/rpc/keymanagerpb"
)

// Report implements keymanager.Gateways. It goes to the key manager whose
// stream was opened last, so that what one key manager has sent is confirmed to
// it, else to any; when that one does not answer, to another, once.
func (c *Client) Report(ctx context.Context, s keymanager.GatewayState) error {
	state, err := stateTo(s)
	if err != nil {
		return notValid(err)
	}
	m := &pb.ReportRequest{State: state}
	_, err = ask(ctx, c, c.home.Load(), func(ctx context.Context, e *endpoint) (*pb.ReportResponse, error) {
		return e.keyManager.Report(ctx, m)
	})
	return err
}
