package xds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"tollgate/envoy"
	"tollgate/keymanager"
)

// StaticOptions are what an Envoy without a control plane serves.
type StaticOptions struct {
	Group Group
	APIs  []*keymanager.API
	// Certificates of the group's https listeners, by name, as files that Envoy
	// reads when it starts.
	Certificates map[string]CertificateFiles
}

// CertificateFiles are the PEM files of a certificate, as Envoy sees them.
type CertificateFiles struct{ CertFile, KeyFile, CAFile string }

// StaticResources are parts of the static_resources of Envoy's bootstrap, each
// in JSON.
type StaticResources struct{ Listeners, Clusters, Secrets []json.RawMessage }

// Static builds what a Server would push to the group, for an Envoy that is
// started with it: the same listeners, filters, routes and clusters, with the
// tables inside the listeners. APIs that are not for the group, or not routed,
// are left out. An API that cannot be built is an error of its own among those
// refused, and left out too.
func Static(o StaticOptions) (out StaticResources, refused []error, err error) {
	g := &o.Group
	if err := g.check(); err != nil {
		return out, nil, fmt.Errorf("xds: group %q: %w", g.Name, err)
	}
	for _, name := range g.certificates() {
		f, ok := o.Certificates[name]
		if !ok {
			return out, nil, fmt.Errorf("xds: group %q: no certificate %q", g.Name, name)
		}
		if out.Secrets, err = appendSecrets(out.Secrets, name, f); err != nil {
			return out, nil, err
		}
	}
	s := &static{group: g, known: map[string]bool{}}
	if err := s.addKeyManager(); err != nil {
		return out, nil, err
	}
	refused = s.addAPIs(o.APIs)
	if out.Clusters, err = plain(s.clusters, nil); err != nil {
		return out, nil, err
	}
	scopes, err := plain(s.scopes, nil)
	if err != nil {
		return out, nil, err
	}
	var listeners []proto.Message
	for _, spec := range g.Listeners {
		l, err := buildListener(g, spec)
		if err == nil {
			err = proveListener(l)
		}
		if err != nil {
			return out, nil, err
		}
		listeners = append(listeners, l)
	}
	out.Listeners, err = plain(listeners, scopes)
	return out, refused, err
}

// static collects the resources of a group.
type static struct {
	group            *Group
	known            map[string]bool
	clusters, scopes []proto.Message
}

func (s *static) addKeyManager() error {
	if len(s.group.KeyManager.Addresses) == 0 {
		return nil
	}
	c, err := buildKeyManagerCluster(s.group)
	if err == nil {
		err = proveCluster(c)
	}
	if err != nil {
		return err
	}
	s.clusters, s.known[envoy.ClusterKeyManager] = append(s.clusters, c), true
	tables, err := buildKeyManagerScopes(s.group)
	for _, t := range tables {
		s.scopes = append(s.scopes, t)
	}
	return err
}

func (s *static) addAPIs(apis []*keymanager.API) (refused []error) {
	segments := map[string][]*plan{}
	for _, api := range apis {
		if !api.Routed() || len(api.Labels) > 0 && !slices.Contains(api.Labels, s.group.Name) {
			continue
		}
		p, ends, err := newPlan(s.group, api)
		if err == nil && len(p.trust.certificates()) > 0 {
			err = fmt.Errorf("its back end names a certificate: those come by xds alone")
		}
		if err == nil {
			err = s.addCluster(p, api.Protocol, ends)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("API %s/%s of %s: %w", api.Name, api.Version, api.Organization, err))
			continue
		}
		segments[p.segment] = append(segments[p.segment], p)
	}
	for _, segment := range slices.Sorted(maps.Keys(segments)) {
		table, err := buildScope(s.group, segment, segments[segment])
		if err == nil {
			err = proveScope(s.group, table, func(c string) bool { return s.known[c] })
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("the APIs below /%s: %w", segment, err))
			continue
		}
		s.scopes = append(s.scopes, table)
	}
	return refused
}

func (s *static) addCluster(p *plan, protocol keymanager.Protocol, ends []endpoint) error {
	c, err := buildAPICluster(p, protocol, ends)
	if err == nil {
		err = proveCluster(c)
	}
	if err == nil {
		s.clusters, s.known[p.cluster] = append(s.clusters, c), true
	}
	return err
}

// plain writes resources as JSON without a reference to xds: tables are where
// they would have been fetched from, and secrets are found by their name alone.
func plain(resources []proto.Message, scopes []json.RawMessage) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for _, m := range resources {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		if raw, err = json.Marshal(withoutADS(v, scopes)); err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

func withoutADS(v any, scopes []json.RawMessage) any {
	switch v := v.(type) {
	case map[string]any:
		if v["scoped_rds"] != nil {
			delete(v, "scoped_rds")
			delete(v, "rds_config_source")
			v["scoped_route_configurations_list"] = map[string]any{"scoped_route_configurations": scopes}
		}
		if source, ok := v["sds_config"].(map[string]any); ok && source["ads"] != nil {
			delete(v, "sds_config")
		}
		for key, inner := range v {
			v[key] = withoutADS(inner, scopes)
		}
	case []any:
		for i, inner := range v {
			v[i] = withoutADS(inner, scopes)
		}
	}
	return v
}

// appendSecrets adds the secrets of a certificate's files.
func appendSecrets(out []json.RawMessage, name string, f CertificateFiles) ([]json.RawMessage, error) {
	type object = map[string]any
	var secrets []object
	if f.CertFile != "" || f.KeyFile != "" {
		secrets = append(secrets, object{"name": pairSecret(name), "tls_certificate": object{
			"certificate_chain": object{"filename": f.CertFile}, "private_key": object{"filename": f.KeyFile}}})
	}
	if f.CAFile != "" {
		secrets = append(secrets, object{"name": authoritySecret(name), "validation_context": object{
			"trusted_ca": object{"filename": f.CAFile}}})
	}
	for _, s := range secrets {
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}
