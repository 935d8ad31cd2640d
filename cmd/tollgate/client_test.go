package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// Client commands work with any application that was given scopes of the
// management plane, not with the built-in one alone.
func TestClientOfADelegate(t *testing.T) {
	d := referenceDaemon(t)
	server := httptest.NewServer(d.keyManagerHandler)
	defer server.Close()
	as := func(creds Credentials) *client {
		t.Helper()
		creds.Server = server.URL
		c, err := newClient(creds)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.http.CloseIdleConnections)
		return c
	}
	administrator := as(d.credentials)
	docs, err := parseManifest("m.yaml", []byte(`
kind: Application
name: publisher
spec: {owner: admin, scopes: ["tollgate:publish"]}
---
kind: Application
name: plain
spec: {owner: admin}
`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := administrator.apply(t.Context(), docs, applyOptions{}); err != nil {
		t.Fatal(err)
	}
	const organization = admin.Prefix + "/organizations/default"
	key := func(app string) Credentials {
		t.Helper()
		creds, err := createConsumerKey(t.Context(), administrator, organization+"/applications/"+app+"/keys", keymanager.Production)
		if err != nil {
			t.Fatal(err)
		}
		return creds
	}
	publisher := as(key("publisher"))
	if _, err := publisher.list(t.Context(), organization+"/apis"); err != nil {
		t.Errorf("a publisher lists APIs: %v", err)
	}
	if _, err := publisher.list(t.Context(), organization+"/applications"); err == nil || !strings.Contains(err.Error(), "tollgate:subscribe") {
		t.Errorf("a publisher lists applications: %v", err)
	}
	if _, err := as(key("plain")).list(t.Context(), organization+"/apis"); err == nil || !strings.Contains(err.Error(), "no scope of the management plane") {
		t.Errorf("an application without rights: %v", err)
	}
}
