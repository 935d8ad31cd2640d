package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"tollgate/keymanager"
)

// KeySpec is the JSON of a consumer key. The name of its document is
// application/PRODUCTION or application/SANDBOX.
type KeySpec struct {
	TokenLifetime string   `json:"tokenLifetime,omitempty" doc:"of access tokens; left out: the key manager's default" example:"1h"`
	AuthMethod    string   `json:"authMethod,omitempty" enum:"client_secret_basic,client_secret_post" doc:"left out: either"`
	GrantTypes    []string `json:"grantTypes,omitempty" doc:"default: client_credentials"`
}

// NewKey is the body that makes a consumer key.
type NewKey struct {
	KeyType       string   `json:"keyType" enum:"PRODUCTION,SANDBOX"`
	TokenLifetime string   `json:"tokenLifetime,omitempty" doc:"of access tokens; left out: the key manager's default"`
	AuthMethod    string   `json:"authMethod,omitempty" enum:"client_secret_basic,client_secret_post" doc:"left out: either"`
	GrantTypes    []string `json:"grantTypes,omitempty" doc:"default: client_credentials"`
}

// Key is a consumer key as it is shown.
type Key struct {
	Kind         string    `json:"kind"`
	Organization string    `json:"organization"`
	Name         string    `json:"name" doc:"application/keyType"`
	ConsumerKey  string    `json:"consumerKey" doc:"the client_id"`
	KeyType      string    `json:"keyType"`
	CreatedAt    time.Time `json:"createdAt"`
	Spec         KeySpec   `json:"spec"`
	Secret       *Issued   `json:"secret,omitempty" doc:"the first client secret; shown once, when the key is made"`
}

// Issued is a credential, shown once.
type Issued struct {
	ConsumerKey  string     `json:"consumerKey"`
	ID           string     `json:"id" doc:"of the secret"`
	ClientSecret string     `json:"clientSecret"`
	CreatedAt    time.Time  `json:"createdAt"`
	ExpiresAt    *time.Time `json:"expiresAt,omitempty"`
}

func keys() *managed[keymanager.Client, KeySpec] {
	return &managed[keymanager.Client, KeySpec]{
		kind: kindKey, rank: 5, put: "put-key",
		find:  findKey,
		build: buildKey,
		show: func(_ context.Context, _ *lookup, k *keymanager.Client) (*KeySpec, error) {
			s := &KeySpec{AuthMethod: k.AuthMethod, GrantTypes: texts(k.GrantTypes)}
			if k.TokenLifetime != 0 {
				s.TokenLifetime = k.TokenLifetime.String()
			}
			return s, nil
		},
		about: func(ctx context.Context, l *lookup, k *keymanager.Client) (Object[KeySpec], error) {
			app, err := l.applicationByID(ctx, k.ApplicationID)
			if err != nil {
				return Object[KeySpec]{}, err
			}
			return Object[KeySpec]{
				Organization: string(app.Organization), Name: app.Name + "/" + string(k.KeyType),
				ID: string(k.ConsumerKey), CreatedAt: k.CreatedAt, UpdatedAt: k.CreatedAt,
			}, nil
		},
		id:     func(k *keymanager.Client) any { return k.ConsumerKey },
		create: func(ctx context.Context, tx *txn, k *keymanager.Client) error { return tx.st.CreateClient(ctx, k) },
		update: func(ctx context.Context, tx *txn, k *keymanager.Client) error { return tx.st.UpdateClient(ctx, k) },
		remove: func(ctx context.Context, tx *txn, k *keymanager.Client) error {
			return tx.st.DeleteClient(ctx, k.ConsumerKey)
		},
		issue: func(ctx context.Context, tx *txn, k *keymanager.Client) (*Issued, error) {
			app, err := tx.look.applicationByID(ctx, k.ApplicationID)
			if err != nil {
				return nil, err
			}
			return issueSecret(ctx, tx, app, k, time.Time{})
		},
	}
}

func findKey(ctx context.Context, l *lookup, org keymanager.OrganizationID, name string) (*keymanager.Client, error) {
	appName, keyType, _ := strings.Cut(name, "/")
	return readNamed(l, ref{kindKey, org, name}, func() (*keymanager.Client, error) {
		app, err := l.application(ctx, org, appName)
		if err != nil {
			return nil, err
		}
		list, err := l.st.Clients(ctx, app.ID)
		if err != nil {
			return nil, err
		}
		for i := range list {
			if list[i].KeyType == keymanager.KeyType(keyType) {
				return &list[i], nil
			}
		}
		return nil, keymanager.Errorf(keymanager.KindNotFound, "the application %q has no key of the type %q", appName, keyType)
	})
}

func buildKey(ctx context.Context, tx *txn, c *checks, org keymanager.OrganizationID, name string, s *KeySpec, old *keymanager.Client) (*keymanager.Client, error) {
	appName, keyType, _ := strings.Cut(name, "/")
	k := &keymanager.Client{
		ApplicationID: unresolved, KeyType: keymanager.KeyType(keyType), GrantTypes: s.GrantTypes, AuthMethod: s.AuthMethod,
		TokenLifetime: duration(c, "/tokenLifetime", s.TokenLifetime, 0), CreatedAt: tx.now,
	}
	if len(k.GrantTypes) == 0 {
		k.GrantTypes = []string{keymanager.GrantClientCredentials}
	}
	if app := c.application(ctx, "/name", org, appName); app != nil {
		if err := guardApplication(tx.caller, app); err != nil {
			return nil, err
		}
		k.ApplicationID = app.ID
	}
	if old != nil {
		k.ConsumerKey, k.CreatedAt = old.ConsumerKey, old.CreatedAt
	} else {
		var err error
		if k.ConsumerKey, err = newConsumerKey(tx.Rand); err != nil {
			return nil, err
		}
	}
	c.fields = append(c.fields, keymanager.ValidateClient(k)...)
	return k, nil
}

// applicationOf returns the application that a request is about.
func applicationOf(ctx context.Context, l *lookup) (*keymanager.Application, error) {
	r := requestOf(ctx)
	return l.application(ctx, r.organization(), r.param("name"))
}

// clientOf returns the consumer key that a request is about, with its
// application.
func clientOf(ctx context.Context, l *lookup) (*keymanager.Application, *keymanager.Client, error) {
	app, err := applicationOf(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	key := keymanager.ConsumerKey(requestOf(ctx).param("consumerKey"))
	list, err := l.st.Clients(ctx, app.ID)
	if err != nil {
		return nil, nil, err
	}
	for i := range list {
		if list[i].ConsumerKey == key {
			return app, &list[i], nil
		}
	}
	return nil, nil, keymanager.Errorf(keymanager.KindNotFound, "the application %q has no such consumer key", app.Name)
}

func showKey(ctx context.Context, l *lookup, k *keymanager.Client) (Key, error) {
	o, err := keys().object(ctx, l, k)
	return Key{
		Kind: o.Kind, Organization: o.Organization, Name: o.Name, ConsumerKey: o.ID,
		KeyType: string(k.KeyType), CreatedAt: o.CreatedAt, Spec: o.Spec,
	}, err
}

type keyOut struct {
	Location string `header:"Location"`
	Body     Key
}

const keysPath = "/organizations/{org}/applications/{name}/keys"

func mountKeys(m *mount) {
	s, k := m.server, keys()
	m.kinds[k.kind] = k
	tag := kindKey
	route(m, operation{id: "list-keys", method: http.MethodGet, path: keysPath, tag: tag, summary: "List the consumer keys of an application"},
		func(ctx context.Context, in *listIn) (*pageOut[Key], error) {
			l := newLookup(s.Store)
			app, err := applicationOf(ctx, l)
			if err != nil {
				return nil, err
			}
			list, err := s.Store.Clients(ctx, app.ID)
			if err != nil {
				return nil, err
			}
			out := &pageOut[Key]{Body: listOf[Key](nil, len(list), in.PageQuery)}
			for _, c := range cut(list, in.PageQuery) {
				shown, err := showKey(ctx, l, &c)
				if err != nil {
					return nil, err
				}
				out.Body.Items = append(out.Body.Items, shown)
			}
			return out, nil
		})
	route(m, operation{id: "get-key", method: http.MethodGet, path: keysPath + "/{consumerKey}", tag: tag, summary: "Show a consumer key"},
		func(ctx context.Context, _ *nothing) (*keyOut, error) {
			l := newLookup(s.Store)
			_, client, err := clientOf(ctx, l)
			if err != nil {
				return nil, err
			}
			shown, err := showKey(ctx, l, client)
			return &keyOut{Body: shown}, err
		})
	route(m, operation{id: "create-key", method: http.MethodPost, path: keysPath, tag: tag, status: http.StatusCreated, summary: "Generate a consumer key with a first secret, which is shown once"},
		func(ctx context.Context, in *struct{ Body document[NewKey] }) (*keyOut, error) {
			return createKey(ctx, s, k, in.Body)
		})
	route(m, operation{id: "put-key", method: http.MethodPut, path: keysPath + "/{consumerKey}", tag: tag, summary: "Change a consumer key"},
		func(ctx context.Context, in *struct{ Body document[KeySpec] }) (*keyOut, error) {
			spec, err := in.Body.read()
			if err != nil {
				return nil, err
			}
			var out *keyOut
			err = s.write(ctx, Conditions{}, func(tx *txn) error {
				app, client, err := clientOf(ctx, tx.look)
				if err != nil {
					return err
				}
				out, err = putKey(ctx, tx, k, app, client.KeyType, spec)
				return err
			})
			return out, err
		})
	route(m, operation{id: "delete-key", method: http.MethodDelete, path: keysPath + "/{consumerKey}", tag: tag, summary: "Delete a consumer key with its secrets and tokens"},
		func(ctx context.Context, _ *nothing) (*nothing, error) {
			return &nothing{}, s.write(ctx, Conditions{}, func(tx *txn) error {
				app, client, err := clientOf(ctx, tx.look)
				if err != nil {
					return err
				}
				if err := guardApplication(tx.caller, app); err != nil {
					return err
				}
				return k.delete(ctx, tx, app.Organization, app.Name+"/"+string(client.KeyType), Conditions{})
			})
		})
}

func createKey(ctx context.Context, s *server, k *managed[keymanager.Client, KeySpec], body document[NewKey]) (*keyOut, error) {
	n, err := body.read()
	if err != nil {
		return nil, err
	}
	spec := &KeySpec{TokenLifetime: n.TokenLifetime, AuthMethod: n.AuthMethod, GrantTypes: n.GrantTypes}
	var out *keyOut
	err = s.write(ctx, Conditions{}, func(tx *txn) error {
		app, err := applicationOf(ctx, tx.look)
		if err != nil {
			return err
		}
		name := app.Name + "/" + n.KeyType
		old, err := found(findKey(ctx, tx.look, app.Organization, name))
		if err != nil {
			return err
		}
		if old != nil {
			return conflict("/keyType", "the application %q has a key of the type %s already: %s", app.Name, n.KeyType, old.ConsumerKey)
		}
		out, err = putKey(ctx, tx, k, app, keymanager.KeyType(n.KeyType), spec)
		if err == nil {
			out.Location = organizationPath(app.Organization, "applications", app.Name, "keys", out.Body.ConsumerKey)
		}
		return err
	})
	return out, err
}

func putKey(ctx context.Context, tx *txn, k *managed[keymanager.Client, KeySpec], app *keymanager.Application, t keymanager.KeyType, spec *KeySpec) (*keyOut, error) {
	c := &checks{look: tx.look}
	ch, client, err := k.planned(ctx, tx, c, app.Organization, app.Name+"/"+string(t), spec)
	if err != nil {
		return nil, err
	}
	if ch == nil {
		return nil, keymanager.Invalid("the body is not valid", c.fields)
	}
	if err := ch.write(ctx, tx); err != nil {
		return nil, err
	}
	out := &keyOut{}
	if out.Body, err = showKey(ctx, tx.look, client); err != nil {
		return nil, err
	}
	out.Body.Secret = ch.issued
	return out, nil
}
