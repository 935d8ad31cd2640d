package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"tollgate/keymanager"
	"tollgate/keymanager/store"
)

// What Bootstrap makes in SystemOrganization, and the user in
// DefaultOrganization too.
const (
	AdminUser        = "admin"
	AdminApplication = "administrator"
)

// Credential is how an application proves itself to the token endpoint, as it
// lies in a file.
type Credential struct {
	ConsumerKey keymanager.ConsumerKey `json:"client_id"`
	Secret      string                 `json:"client_secret"`
}

// String keeps the secret out of logs.
func (c Credential) String() string { return "credential(" + string(c.ConsumerKey) + ")" }

// GoString keeps the secret out of logs.
func (c Credential) GoString() string { return c.String() }

// BuiltInClient returns the key of the built-in application, nil if there is none
// yet.
func BuiltInClient(ctx context.Context, st store.Applications) (*keymanager.Client, error) {
	app, err := found(st.ApplicationByName(ctx, SystemOrganization, AdminApplication))
	if app == nil || err != nil {
		return nil, err
	}
	list, err := st.Clients(ctx, app.ID)
	for i := range list {
		if list[i].KeyType == keymanager.Production {
			return &list[i], nil
		}
	}
	return nil, err
}

// NewAdminCredential makes a credential for Bootstrap, with the consumer key of
// the built-in application if it has one. It stores nothing.
func NewAdminCredential(ctx context.Context, st store.Applications, m Minter, random io.Reader) (Credential, error) {
	client, err := BuiltInClient(ctx, st)
	if err != nil {
		return Credential{}, err
	}
	var c Credential
	if client != nil {
		c.ConsumerKey = client.ConsumerKey
	} else if c.ConsumerKey, err = newConsumerKey(random); err != nil {
		return Credential{}, err
	}
	c.Secret, err = m.ClientSecret()
	return c, err
}

// BootstrapOptions are what Bootstrap works with. Rand and Logger may be left
// out.
type BootstrapOptions struct {
	Store      store.Store
	Peppers    Peppers
	Now        func() time.Time
	Rand       io.Reader
	Logger     *slog.Logger
	Credential Credential
}

// Bootstrap makes sure that o.Credential is the administrator's: that the
// system's organization, its built-in application with every scope of the
// management plane, and this secret are there. The first time it also makes
// the organization DefaultOrganization with a user admin.
//
// The caller has the credential on disk before it calls. So a process that is
// killed at any moment finds, at its next start, either no file, and mints
// another credential, or a file that Bootstrap makes valid. Running it again
// changes nothing. A file that was lost is replaced in the same way; what the
// lost one holds is valid until it is deleted, or until MaxSecrets newer ones
// have come. A credential with another consumer key than the built-in
// application has belongs to another database: KindConflict.
func Bootstrap(ctx context.Context, o BootstrapOptions) error {
	if o.Store == nil || o.Peppers == nil || o.Now == nil {
		return errors.New("admin: BootstrapOptions needs Store, Peppers and Now")
	}
	if o.Credential.ConsumerKey == "" || o.Credential.Secret == "" {
		return errors.New("admin: BootstrapOptions needs a Credential")
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{Options: Options{Store: o.Store, Peppers: o.Peppers, Now: o.Now, Rand: o.Rand, Logger: o.Logger}}
	var err error
	for range maxRaces { // another process may be at it too
		_, err = s.commit(ctx, Conditions{}, func(tx *txn) error {
			tx.caller = Caller{ConsumerKey: "system", Organization: SystemOrganization, Scopes: keymanager.ManagementScopes()}
			return bootstrap(ctx, tx, o.Credential)
		})
		if keymanager.KindOf(err) != keymanager.KindConflict || errors.Is(err, errOtherKey) {
			return err
		}
	}
	return err
}

func bootstrap(ctx context.Context, tx *txn, credential Credential) error {
	system, err := found(tx.st.Organization(ctx, SystemOrganization))
	if err != nil {
		return err
	}
	if system == nil {
		if err := firstStart(ctx, tx); err != nil {
			return err
		}
	}
	app, err := adminApplication(ctx, tx)
	if err != nil {
		return err
	}
	client, err := adminClient(ctx, tx, app, credential.ConsumerKey)
	if err != nil {
		return err
	}
	return storeSecret(ctx, tx, app, client, credential.Secret)
}

// firstStart makes the first organizations, each with a user to own things.
func firstStart(ctx context.Context, tx *txn) error {
	for _, org := range []keymanager.OrganizationID{SystemOrganization, DefaultOrganization} {
		if err := ensure(ctx, tx, organizations(), org, string(org), &OrganizationSpec{}); err != nil {
			return err
		}
		if err := ensure(ctx, tx, users(), org, keymanager.PrimaryUserStore+"/"+AdminUser, &UserSpec{}); err != nil {
			return err
		}
	}
	return nil
}

// ensure makes an object unless it is there.
func ensure[T, S any](ctx context.Context, tx *txn, k *managed[T, S], org keymanager.OrganizationID, name string, spec *S) error {
	if t, err := found(k.find(ctx, tx.look, org, name)); err != nil || t != nil {
		return err
	}
	c := &checks{look: tx.look}
	ch, _, err := k.planned(ctx, tx, c, org, name, spec)
	if err != nil {
		return err
	}
	if ch == nil {
		return keymanager.Invalid("bootstrap", c.fields)
	}
	return ch.write(ctx, tx)
}

// adminApplication makes the built-in application unless it is there.
func adminApplication(ctx context.Context, tx *txn) (*keymanager.Application, error) {
	app, err := found(tx.st.ApplicationByName(ctx, SystemOrganization, AdminApplication))
	if app != nil || err != nil {
		return app, err
	}
	owner, err := tx.look.user(ctx, SystemOrganization, AdminUser)
	if err != nil {
		return nil, err
	}
	id, err := tx.newID()
	if err != nil {
		return nil, err
	}
	app = &keymanager.Application{
		ID: keymanager.ApplicationID(id), Organization: SystemOrganization, Name: AdminApplication, Owner: owner.ID,
		Tier: keymanager.Unlimited, TokenType: keymanager.OpaqueToken, Status: keymanager.ApplicationApproved,
		Scopes: keymanager.ManagementScopes(), BuiltIn: true,
	}
	if err := tx.st.CreateApplication(ctx, app); err != nil {
		return nil, err
	}
	spec, err := showApplication(ctx, tx.look, app)
	if err != nil {
		return nil, err
	}
	return app, tx.audit(ctx, SystemOrganization, "create", kindApplication, app.Name, nil, spec)
}

// adminClient makes the key of the built-in application unless it is there.
func adminClient(ctx context.Context, tx *txn, app *keymanager.Application, key keymanager.ConsumerKey) (*keymanager.Client, error) {
	client, err := BuiltInClient(ctx, tx.st)
	if err != nil {
		return nil, err
	}
	if client != nil {
		if client.ConsumerKey != key {
			return nil, &keymanager.Error{Kind: keymanager.KindConflict, Err: errOtherKey,
				Detail: "the credential is that of another database: its consumer key is not the built-in application's"}
		}
		return client, nil
	}
	client = &keymanager.Client{
		ConsumerKey: key, ApplicationID: app.ID, KeyType: keymanager.Production,
		GrantTypes: []string{keymanager.GrantClientCredentials}, CreatedAt: tx.now,
	}
	if err := tx.st.CreateClient(ctx, client); err != nil {
		return nil, err
	}
	spec, err := keys().show(ctx, tx.look, client)
	if err != nil {
		return nil, err
	}
	return client, tx.audit(ctx, SystemOrganization, "create", kindKey, app.Name+"/"+string(client.KeyType), nil, spec)
}

var errOtherKey = errors.New("other consumer key")

// storeSecret stores a secret unless it is there. It takes the place of the
// oldest when there are as many as may be.
func storeSecret(ctx context.Context, tx *txn, app *keymanager.Application, client *keymanager.Client, secret string) error {
	list, err := tx.st.Secrets(ctx, client.ConsumerKey)
	if err != nil {
		return err
	}
	for i := range list {
		if tx.Peppers.Match(list[i].Digest, secret) {
			return nil
		}
	}
	for len(list) >= MaxSecrets {
		if err := removeSecret(ctx, tx, app, &list[0]); err != nil {
			return err
		}
		list = list[1:]
	}
	_, err = keepSecret(ctx, tx, app, client, secret, time.Time{})
	return err
}
