package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"tollgate/authz"
	"tollgate/keymanager"
	"tollgate/keymanager/publish"
	"tollgate/keymanager/store"
	"tollgate/xds"
)

// system is the parts of one process, joined. What a role does not need is nil.
type system struct {
	metrics  *prometheus.Registry
	store    store.Store
	publish  *publish.Service
	gateways *publish.Gateways
	authz    *authz.Server
	xds      *xds.Server

	background []task // runs longest: what serves the servers
	serving    []task // the servers

	keyManagerHandler http.Handler
	closers           []io.Closer
}

// contracts are what authz and xds need of the key manager.
type contracts struct {
	validator   keymanager.Validator
	catalog     keymanager.Catalog
	revocations keymanager.Revocations
	gateways    keymanager.Gateways
	// reached says which key managers do not answer, nil when one does.
	reached func() error
}

// wire builds the parts that this process runs, and joins them: each contract
// is a plain call of the key manager in this process, or one over the network
// where it is another.
func (d *daemon) wire() (err error) {
	var c contracts
	if d.roles.remote() {
		c, err = d.dialKeyManagers()
	} else {
		c, err = d.wireKeyManager()
	}
	if err != nil {
		return err
	}
	if d.roles.authz {
		if err := d.wireAuthz(c); err != nil {
			return err
		}
	}
	if d.roles.xds {
		if err := d.wireXDS(c); err != nil {
			return err
		}
	}
	if d.roles.keyManager {
		return d.serveKeyManager(c)
	}
	return nil
}

// missing joins what a part lacks with why it may: a part that has not been
// told anything yet waits for a key manager.
func (c contracts) missing(ready func() error) func() error {
	return func() error {
		err := ready()
		if err == nil {
			return nil
		}
		if why := c.reached(); why != nil {
			return fmt.Errorf("%w; %w", err, why)
		}
		return err
	}
}

// instance names a part of this process among others: as its certificate does,
// which is what the key manager believes.
func (d *daemon) instance(part keymanager.Role) string {
	if d.identity != nil && d.identity.peer().Role == part {
		return d.identity.peer().Name
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("%s-%s-%d", part, host, os.Getpid())
}
