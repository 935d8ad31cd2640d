package keymanagertest

import (
	"context"

	"tollgate/keymanager"
)

type gatewayKey struct {
	kind keymanager.GatewayKind
	id   string
}

type gatewaysState struct {
	states map[gatewayKey]keymanager.GatewayState
	calls  int
}

// Report implements keymanager.Gateways.
func (k *KeyManager) Report(ctx context.Context, s keymanager.GatewayState) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gateways.calls++
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.down != nil {
		return k.down
	}
	s.At = k.opts.Now()
	k.gateways.states[gatewayKey{s.Kind, s.ID}] = s
	return nil
}

// Reported returns the last report of a gateway part, and whether there is
// one.
func (k *KeyManager) Reported(kind keymanager.GatewayKind, id string) (keymanager.GatewayState, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.gateways.states[gatewayKey{kind, id}]
	return s, ok
}

// Reports returns how often Report was called.
func (k *KeyManager) Reports() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gateways.calls
}
