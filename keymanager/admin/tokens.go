package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"tollgate/keymanager"
)

// RevokedToken is what the audit trail says of a token that was revoked.
type RevokedToken struct {
	ID string `json:"id"`
}

// mountTokens mounts the revocation of a token by its id, which logs and
// introspection show. Who holds the token itself revokes it at /oauth2/revoke.
func mountTokens(m *mount) {
	s := m.server
	route(m, operation{id: "revoke-token", method: http.MethodDelete, path: "/tokens/{id}", tag: kindToken, summary: "Revoke an access token by its id (jti)"},
		func(ctx context.Context, _ *nothing) (*nothing, error) {
			id, err := keymanager.ParseTokenID(requestOf(ctx).param("id"))
			if err != nil {
				return nil, keymanager.Errorf(keymanager.KindNotFound, "there is no such token")
			}
			return &nothing{}, s.write(ctx, Conditions{}, func(tx *txn) error {
				done, err := tx.st.RevokeToken(ctx, id, tx.now)
				if err != nil || !done {
					return err
				}
				return tx.audit(ctx, tx.caller.Organization, "revoke", kindToken, id.String(), nil, &RevokedToken{ID: id.String()})
			})
		})
}

func newTokenID(random io.Reader) (keymanager.TokenID, error) {
	var id keymanager.TokenID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return keymanager.TokenID{}, fmt.Errorf("new id: %w", err)
	}
	return id, nil
}
