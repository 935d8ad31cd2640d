package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"tollgate/keymanager"
)

// MaxSecrets is how many client secrets of one consumer key may live at once.
const MaxSecrets = 5

// NewSecret is the body that makes a client secret.
type NewSecret struct {
	ExpiresAt string `json:"expiresAt,omitempty" format:"date-time" doc:"left out: never"`
}

// Secret is a client secret as it is shown: not the secret itself.
type Secret struct {
	ID        string     `json:"id"`
	Last4     string     `json:"last4" doc:"its last characters, to recognise it by"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// SecretAudit is what the audit trail says of a secret.
type SecretAudit struct {
	ConsumerKey string     `json:"consumerKey"`
	ID          string     `json:"id"`
	Last4       string     `json:"last4"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
}

func secretAudit(s *keymanager.ClientSecret) *SecretAudit {
	return &SecretAudit{ConsumerKey: string(s.ConsumerKey), ID: string(s.ID), Last4: s.Last4, ExpiresAt: orNever(s.ExpiresAt)}
}

type secretOut struct {
	Location string `header:"Location"`
	Body     Issued
}

const secretsPath = keysPath + "/{consumerKey}/secrets"

func mountSecrets(m *mount) {
	s := m.server
	route(m, operation{id: "list-secrets", method: http.MethodGet, path: secretsPath, tag: kindSecret, summary: "List the client secrets of a consumer key, without the secrets"},
		func(ctx context.Context, in *listIn) (*pageOut[Secret], error) {
			_, client, err := clientOf(ctx, newLookup(s.Store))
			if err != nil {
				return nil, err
			}
			list, err := s.Store.Secrets(ctx, client.ConsumerKey)
			if err != nil {
				return nil, err
			}
			out := &pageOut[Secret]{Body: listOf[Secret](nil, len(list), in.PageQuery)}
			for _, v := range cut(list, in.PageQuery) {
				out.Body.Items = append(out.Body.Items, Secret{
					ID: string(v.ID), Last4: v.Last4, CreatedAt: v.CreatedAt, ExpiresAt: orNever(v.ExpiresAt),
				})
			}
			return out, nil
		})
	route(m, operation{id: "create-secret", method: http.MethodPost, path: secretsPath, tag: kindSecret, status: http.StatusCreated, bodyless: true, summary: "Make one more client secret, which is shown once"},
		func(ctx context.Context, in *struct{ Body document[NewSecret] }) (*secretOut, error) {
			return createSecret(ctx, s, in.Body)
		})
	route(m, operation{id: "delete-secret", method: http.MethodDelete, path: secretsPath + "/{id}", tag: kindSecret, summary: "Delete a client secret; tokens that it got live on"},
		func(ctx context.Context, _ *nothing) (*nothing, error) {
			return &nothing{}, s.write(ctx, Conditions{}, func(tx *txn) error { return deleteSecret(ctx, tx) })
		})
}

func createSecret(ctx context.Context, s *server, body document[NewSecret]) (*secretOut, error) {
	n, err := body.read()
	if err != nil {
		return nil, err
	}
	var out *secretOut
	err = s.write(ctx, Conditions{}, func(tx *txn) error {
		c := &checks{}
		expires := expiry(c, n.ExpiresAt)
		c.fields = append(c.fields, keymanager.ValidateSecret(&keymanager.ClientSecret{ExpiresAt: expires}, tx.now)...)
		if len(c.fields) > 0 {
			return keymanager.Invalid("the body is not valid", c.fields)
		}
		app, client, err := clientOf(ctx, tx.look)
		if err != nil {
			return err
		}
		if err := guardScopes(tx.caller, app); err != nil {
			return err
		}
		if err := makeRoom(ctx, tx, app, client); err != nil {
			return err
		}
		issued, err := issueSecret(ctx, tx, app, client, expires)
		if err != nil {
			return err
		}
		out = &secretOut{Body: *issued, Location: organizationPath(app.Organization,
			"applications", app.Name, "keys", string(client.ConsumerKey), "secrets", issued.ID)}
		return nil
	})
	return out, err
}

// makeRoom removes secrets that have expired, and refuses when as many live as
// may.
func makeRoom(ctx context.Context, tx *txn, app *keymanager.Application, client *keymanager.Client) error {
	list, err := tx.st.Secrets(ctx, client.ConsumerKey)
	if err != nil {
		return err
	}
	live := 0
	for i := range list {
		s := &list[i]
		if s.ExpiresAt.IsZero() || s.ExpiresAt.After(tx.now) {
			live++
			continue
		}
		if err := removeSecret(ctx, tx, app, s); err != nil {
			return err
		}
	}
	if live >= MaxSecrets {
		return keymanager.Errorf(keymanager.KindConflict, "the consumer key has %d client secrets, as many as it may: delete one first", live)
	}
	return nil
}

// issueSecret makes a secret and shows it.
func issueSecret(ctx context.Context, tx *txn, app *keymanager.Application, client *keymanager.Client, expires time.Time) (*Issued, error) {
	value, err := tx.Minter.ClientSecret()
	if err != nil {
		return nil, err
	}
	s, err := keepSecret(ctx, tx, app, client, value, expires)
	if err != nil {
		return nil, err
	}
	return &Issued{
		ConsumerKey: string(client.ConsumerKey), ID: string(s.ID), ClientSecret: value,
		CreatedAt: s.CreatedAt, ExpiresAt: orNever(expires),
	}, nil
}

// keepSecret stores what is stored of a secret.
func keepSecret(ctx context.Context, tx *txn, app *keymanager.Application, client *keymanager.Client, value string, expires time.Time) (*keymanager.ClientSecret, error) {
	id, err := tx.newID()
	if err != nil {
		return nil, err
	}
	s := &keymanager.ClientSecret{
		ID: keymanager.SecretID(id), ConsumerKey: client.ConsumerKey,
		Digest: tx.Peppers.Digest(value), Last4: value[max(0, len(value)-4):],
		CreatedAt: tx.now, ExpiresAt: expires,
	}
	if err := tx.st.CreateSecret(ctx, s); err != nil {
		return nil, err
	}
	return s, tx.audit(ctx, app.Organization, "create", kindSecret, app.Name+"/"+string(client.KeyType), nil, secretAudit(s))
}

func removeSecret(ctx context.Context, tx *txn, app *keymanager.Application, s *keymanager.ClientSecret) error {
	if err := tx.st.DeleteSecret(ctx, s.ConsumerKey, s.ID); err != nil {
		return err
	}
	return tx.audit(ctx, app.Organization, "delete", kindSecret, app.Name+"/"+string(s.ConsumerKey), secretAudit(s), nil)
}

// deleteSecret deletes any but the newest, so that a key is never left without
// the one that was made last.
func deleteSecret(ctx context.Context, tx *txn) error {
	app, client, err := clientOf(ctx, tx.look)
	if err != nil {
		return err
	}
	if err := guardScopes(tx.caller, app); err != nil {
		return err
	}
	list, err := tx.st.Secrets(ctx, client.ConsumerKey)
	if err != nil {
		return err
	}
	var it, newest *keymanager.ClientSecret
	for i := range list {
		s := &list[i]
		if newest == nil || !s.CreatedAt.Before(newest.CreatedAt) {
			newest = s
		}
		if string(s.ID) == requestOf(ctx).param("id") {
			it = s
		}
	}
	switch it {
	case nil:
		return keymanager.Errorf(keymanager.KindNotFound, "the consumer key has no such client secret")
	case newest:
		return keymanager.Errorf(keymanager.KindConflict, "this is the newest client secret of the consumer key: make another one first, or delete the key")
	default:
		return removeSecret(ctx, tx, app, it)
	}
}

// expiry reads a time, or "" for never.
func expiry(c *checks, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		c.add("/expiresAt", fmt.Sprintf("must be a time such as 2030-01-31T12:00:00Z (RFC 3339), not %q", shortened(s)))
	}
	return t.UTC()
}

func orNever(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// cut returns the page of a list that is there as a whole.
func cut[T any](list []T, q PageQuery) []T {
	from := min(q.Offset, len(list))
	return list[from:min(from+q.Limit, len(list))]
}
