package admin

import (
	"context"
	"net/http"
	"time"

	"tollgate/keymanager"
)

// NewAPIKey is the body that makes an API key.
type NewAPIKey struct {
	Name      string   `json:"name" doc:"unique in the application"`
	KeyType   string   `json:"keyType" enum:"PRODUCTION,SANDBOX"`
	ExpiresAt string   `json:"expiresAt,omitempty" format:"date-time" doc:"left out: never"`
	Networks  []string `json:"networks,omitempty" doc:"addresses or networks (CIDR) it may be used from; none: any"`
	Referers  []string `json:"referers,omitempty" doc:"Referer headers it may be used with, * for any run of characters; none: any. Both restrictions must hold"`
}

// APIKey is an API key as it is shown: not the key itself, but in the answer
// that made it.
type APIKey struct {
	ID          string     `json:"id"`
	Application string     `json:"application"`
	Name        string     `json:"name"`
	KeyType     string     `json:"keyType"`
	Status      string     `json:"status" enum:"ACTIVE,EXPIRED,REVOKED"`
	Last4       string     `json:"last4" doc:"its last characters, to recognise it by"`
	Networks    []string   `json:"networks,omitempty"`
	Referers    []string   `json:"referers,omitempty"`
	CreatedAt   time.Time  `json:"createdAt"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
	RevokedAt   *time.Time `json:"revokedAt,omitempty"`
	Key         string     `json:"key,omitempty" doc:"shown once, when the key is made"`
}

type apiKeyOut struct {
	Location string `header:"Location"`
	Body     APIKey
}

const apiKeysPath = "/organizations/{org}/applications/{name}/api-keys"

func mountAPIKeys(m *mount) {
	s := m.server
	route(m, operation{id: "list-api-keys", method: http.MethodGet, path: apiKeysPath, tag: kindAPIKey, summary: "List the API keys of an application, without the keys"},
		func(ctx context.Context, in *listIn) (*pageOut[APIKey], error) {
			app, err := applicationOf(ctx, newLookup(s.Store))
			if err != nil {
				return nil, err
			}
			list, total, err := s.Store.APIKeys(ctx, app.ID, in.page())
			if err != nil {
				return nil, err
			}
			out := &pageOut[APIKey]{Body: listOf[APIKey](nil, total, in.PageQuery)}
			for i := range list {
				out.Body.Items = append(out.Body.Items, showAPIKey(app, &list[i], s.Now()))
			}
			return out, nil
		})
	route(m, operation{id: "get-api-key", method: http.MethodGet, path: apiKeysPath + "/{id}", tag: kindAPIKey, summary: "Show an API key, without the key"},
		func(ctx context.Context, _ *nothing) (*apiKeyOut, error) {
			app, k, err := apiKeyOf(ctx, newLookup(s.Store))
			if err != nil {
				return nil, err
			}
			return &apiKeyOut{Body: showAPIKey(app, k, s.Now())}, nil
		})
	route(m, operation{id: "create-api-key", method: http.MethodPost, path: apiKeysPath, tag: kindAPIKey, status: http.StatusCreated, summary: "Make an API key, which is shown once"},
		func(ctx context.Context, in *struct{ Body document[NewAPIKey] }) (*apiKeyOut, error) {
			return createAPIKey(ctx, s, in.Body)
		})
	route(m, operation{id: "revoke-api-key", method: http.MethodDelete, path: apiKeysPath + "/{id}", tag: kindAPIKey, summary: "Revoke an API key; it stays in the list"},
		func(ctx context.Context, _ *nothing) (*nothing, error) {
			return &nothing{}, s.write(ctx, Conditions{}, func(tx *txn) error { return revokeAPIKey(ctx, tx) })
		})
}

// apiKeyOf returns the API key that a request is about, with its application.
func apiKeyOf(ctx context.Context, l *lookup) (*keymanager.Application, *keymanager.APIKey, error) {
	app, err := applicationOf(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	none := keymanager.Errorf(keymanager.KindNotFound, "the application %q has no such API key", app.Name)
	id, err := keymanager.ParseTokenID(requestOf(ctx).param("id"))
	if err != nil {
		return nil, nil, none
	}
	k, err := found(l.st.APIKey(ctx, id))
	if err != nil {
		return nil, nil, err
	}
	if k == nil || k.ApplicationID != app.ID {
		return nil, nil, none
	}
	return app, k, nil
}

func createAPIKey(ctx context.Context, s *server, body document[NewAPIKey]) (*apiKeyOut, error) {
	n, err := body.read()
	if err != nil {
		return nil, err
	}
	var out *apiKeyOut
	err = s.write(ctx, Conditions{}, func(tx *txn) error {
		app, err := applicationOf(ctx, tx.look)
		if err != nil {
			return err
		}
		if err := guardApplication(tx.caller, app); err != nil {
			return err
		}
		k, err := newAPIKey(tx, app, n)
		if err != nil {
			return err
		}
		value, err := tx.Minter.APIKey()
		if err != nil {
			return err
		}
		k.Digest, k.Last4 = tx.Peppers.Digest(value), value[len(value)-4:]
		if err := tx.st.CreateAPIKey(ctx, k); err != nil {
			return err
		}
		shown := showAPIKey(app, k, tx.now)
		if err := tx.audit(ctx, app.Organization, "create", kindAPIKey, app.Name+"/"+k.Name, nil, shown); err != nil {
			return err
		}
		shown.Key = value
		out = &apiKeyOut{Body: shown, Location: organizationPath(app.Organization, "applications", app.Name, "api-keys", shown.ID)}
		return nil
	})
	return out, err
}

// newAPIKey checks what is asked for.
func newAPIKey(tx *txn, app *keymanager.Application, n *NewAPIKey) (*keymanager.APIKey, error) {
	c := &checks{}
	networks, problems := keymanager.ParseNetworks("/networks", n.Networks)
	c.fields = append(c.fields, problems...)
	k := &keymanager.APIKey{
		ApplicationID: app.ID, Name: n.Name, KeyType: keymanager.KeyType(n.KeyType), Networks: networks,
		Referers: n.Referers, CreatedAt: tx.now, ExpiresAt: expiry(c, n.ExpiresAt),
	}
	c.fields = append(c.fields, keymanager.ValidateAPIKey(k, tx.now)...)
	if len(c.fields) > 0 {
		return nil, keymanager.Invalid("the body is not valid", c.fields)
	}
	var err error
	k.ID, err = newTokenID(tx.Rand)
	return k, err
}

func revokeAPIKey(ctx context.Context, tx *txn) error {
	app, k, err := apiKeyOf(ctx, tx.look)
	if err != nil {
		return err
	}
	if err := guardApplication(tx.caller, app); err != nil {
		return err
	}
	if !k.RevokedAt.IsZero() {
		return nil // it is what was asked for
	}
	before := showAPIKey(app, k, tx.now)
	if err := tx.st.RevokeAPIKey(ctx, k.ID, tx.now); err != nil {
		return err
	}
	k.RevokedAt = tx.now
	return tx.audit(ctx, app.Organization, "revoke", kindAPIKey, app.Name+"/"+k.Name, before, showAPIKey(app, k, tx.now))
}

func showAPIKey(app *keymanager.Application, k *keymanager.APIKey, now time.Time) APIKey {
	s := APIKey{
		ID: k.ID.String(), Application: app.Name, Name: k.Name, KeyType: string(k.KeyType), Status: "ACTIVE",
		Last4: k.Last4, Referers: texts(k.Referers), CreatedAt: k.CreatedAt,
		ExpiresAt: orNever(k.ExpiresAt), RevokedAt: orNever(k.RevokedAt),
	}
	for _, n := range k.Networks {
		s.Networks = append(s.Networks, n.String())
	}
	switch {
	case !k.RevokedAt.IsZero():
		s.Status = "REVOKED"
	case !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now):
		s.Status = "EXPIRED"
	}
	return s
}
