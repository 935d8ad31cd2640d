package bootstrap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
)

// TLS is how this Envoy proves itself, and whom it believes. All paths are
// absolute, as Envoy sees them. The zero value is no TLS.
type TLS struct {
	// CertFile and KeyFile are PEM files in one folder, CAFile one of those who
	// sign the servers' certificates. Envoy reads them when it starts, and again
	// when a name in their folder is replaced by a rename, such as the link
	// "..data" of a Kubernetes volume. A file that is overwritten in place is not
	// noticed.
	CertFile, KeyFile, CAFile string
	// SDSDir is the folder of the files that SDSFiles returns.
	SDSDir string
	// TrustDomain is that of the servers' identities
	// (spiffe://TRUSTDOMAIN/ROLE/...): the role is checked, instead of the DNS
	// name. "" = the name is.
	TrustDomain string
}

// secret is one resource of file SDS.
type secret struct{ Name, Path, Watched string }

type secrets struct{ Client, CA secret }

// Names of the secrets and of their files.
const (
	clientSecret = "tollgate_client"
	caSecret     = "tollgate_ca"
	clientFile   = "client.yaml"
	caFile       = "ca.yaml"
)

var trustDomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$`)

func (c *checker) secrets(t TLS) secrets {
	before := len(c.errs)
	for _, f := range []struct{ option, path string }{
		{"TLS.CertFile", t.CertFile}, {"TLS.KeyFile", t.KeyFile}, {"TLS.CAFile", t.CAFile}, {"TLS.SDSDir", t.SDSDir},
	} {
		c.absolute(f.option, f.path)
	}
	if len(c.errs) == before && path.Dir(t.CertFile) != path.Dir(t.KeyFile) {
		c.wrong("TLS.CertFile, TLS.KeyFile", "lie in two folders: Envoy watches one, and must not read a certificate without its key")
	}
	if t.TrustDomain != "" && !trustDomain.MatchString(t.TrustDomain) {
		c.wrong("TLS.TrustDomain", fmt.Sprintf("is not a name such as example.org: %q", t.TrustDomain))
	}
	return t.secrets()
}

func (t TLS) secrets() secrets {
	return secrets{
		Client: secret{clientSecret, path.Join(t.SDSDir, clientFile), path.Dir(t.CertFile)},
		CA:     secret{caSecret, path.Join(t.SDSDir, caFile), path.Dir(t.CAFile)},
	}
}

// File is a file that must lie where Envoy starts.
type File struct {
	Path    string // absolute
	Content []byte // YAML
}

// SDSFiles returns the files of the secrets that a bootstrap with Servers
// refers to. They hold paths and no key. Without TLS there are none.
func (t TLS) SDSFiles() ([]File, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &checker{}
	s := c.secrets(t)
	if err := c.err(); err != nil {
		return nil, err
	}
	type object = map[string]any
	const typeURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	var out []File
	for _, f := range []struct {
		secret
		key   string
		value object
	}{
		{s.Client, "tls_certificate", object{
			"certificate_chain": object{"filename": t.CertFile}, "private_key": object{"filename": t.KeyFile},
			"watched_directory": object{"path": s.Client.Watched}}},
		{s.CA, "validation_context", object{
			"trusted_ca": object{"filename": t.CAFile}, "watched_directory": object{"path": s.CA.Watched}}},
	} {
		var raw bytes.Buffer
		err := json.NewEncoder(&raw).Encode(object{"resources": []object{{"@type": typeURL, "name": f.Name, f.key: f.value}}})
		if err != nil {
			return nil, err
		}
		text, err := YAML(raw.Bytes(), nil)
		if err != nil {
			return nil, err
		}
		out = append(out, File{f.Path, text})
	}
	return out, nil
}
