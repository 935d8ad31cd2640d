package keymanagertest

import (
	"cmp"
	"context"
	"slices"

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
	if (s.Kind != keymanager.GatewayAuthz && s.Kind != keymanager.GatewayXDS) || s.ID == "" || len(s.ID) > 200 {
		return keymanager.Errorf(keymanager.KindInvalid, "a report needs a kind and an id")
	}
	s.Nodes, s.Rejected = slices.Clone(s.Nodes), slices.Clone(s.Rejected)
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

// States returns the last report of every gateway part, by kind and id.
func (k *KeyManager) States() []keymanager.GatewayState {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []keymanager.GatewayState
	for _, s := range k.gateways.states {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b keymanager.GatewayState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Reports returns how often Report was called.
func (k *KeyManager) Reports() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gateways.calls
}
