package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"tollgate/keymanager"
	"tollgate/keymanager/admin"
)

// demoManifest is what a first "dev" applies: the two sample APIs, and an
// application that is subscribed to both.
//
//go:embed demo.yaml
var demoManifest string

const demoApplication = "demo"

// demo is what "dev" shows a developer.
type demo struct {
	Production, Sandbox Credentials
	First               bool // the credential was made just now
}

// demoDocuments returns the manifest with the addresses of the sample back end.
func demoDocuments(sample SampleConfig) ([]document, error) {
	defaults := defaultConfig().Sample
	text := strings.NewReplacer(
		"http://"+defaults.Production+"/", "http://"+sample.Production+"/",
		"http://"+defaults.Sandbox+"/", "http://"+sample.Sandbox+"/",
	).Replace(demoManifest)
	return parseManifest("demo.yaml", []byte(text))
}

// ensureDemo makes the demo data at the first start, through the management API
// as anybody would, and finds it again at the next one: what was changed or
// deleted since stays so.
func ensureDemo(ctx context.Context, c *client, state *State, sample SampleConfig) (demo, error) {
	if err := applyDemo(ctx, c, state, sample); err != nil {
		return demo{}, fmt.Errorf("demo data: %w", err)
	}
	known, err := exists(state.Path(fileDemo))
	if err != nil {
		return demo{}, err
	}
	d := demo{First: !known}
	if d.Production, err = demoKey(ctx, c, state.Path(fileDemo), keymanager.Production); err != nil {
		return demo{}, fmt.Errorf("demo key: %w", err)
	}
	if d.Sandbox, err = demoKey(ctx, c, state.Path(fileDemoSandbox), keymanager.Sandbox); err != nil {
		return demo{}, fmt.Errorf("demo key: %w", err)
	}
	return d, nil
}

// applyDemo applies the manifest once for each pair of sample addresses: the
// APIs in the database have to know where the sample back end listens today.
func applyDemo(ctx context.Context, c *client, state *State, sample SampleConfig) error {
	path := state.Path(fileDemoApplied)
	var applied SampleConfig
	there, err := exists(path)
	if err != nil {
		return err
	}
	if there {
		if err := readPrivateJSON(path, &applied); err != nil {
			return err
		}
	}
	if applied == sample {
		return nil
	}
	docs, err := demoDocuments(sample)
	if err != nil {
		return err
	}
	if _, err := c.apply(ctx, docs, applyOptions{}); err != nil {
		return err
	}
	return writePrivateJSON(path, sample)
}

// demoKey returns the credential in the file, or makes one. A crash between
// the key and the file leaves a key without a file: that gets a new secret.
func demoKey(ctx context.Context, c *client, path string, t keymanager.KeyType) (Credentials, error) {
	there, err := exists(path)
	if err != nil {
		return Credentials{}, err
	}
	if there {
		creds, err := readCredentials(path)
		if err != nil || creds.Server == c.creds.Server {
			return creds, err
		}
		creds.Server = c.creds.Server
		return creds, writePrivateJSON(path, creds)
	}
	kind, err := findKind("application")
	if err != nil {
		return Credentials{}, err
	}
	keys := kind.path(string(admin.DefaultOrganization), demoApplication) + "/keys"
	creds, err := createConsumerKey(ctx, c, keys, t)
	if p := (*problem)(nil); errors.As(err, &p) && p.Status == 409 {
		creds, err = createSecret(ctx, c, keys, t)
	}
	if err != nil {
		return Credentials{}, err
	}
	return creds, writePrivateJSON(path, creds)
}
