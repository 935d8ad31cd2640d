package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// metadata is the authorization server metadata endpoint (RFC 8414). Its
// answer was written when the server was made: nothing of a request, such as
// its host, gets into it.
func (s *Server) metadata(*http.Request, string) answer {
	return answer{status: http.StatusOK, body: s.document}
}

// document writes the metadata from the table of endpoints.
func document(issuer string, endpoints []endpoint) ([]byte, error) {
	m := map[string]any{
		"issuer": issuer,
		// Required, though empty: there is no authorization endpoint.
		"response_types_supported": []string{},
	}
	names := make([]string, 0, 1)
	for _, g := range grants() {
		names = append(names, g.name)
	}
	m["grant_types_supported"] = names
	for _, e := range endpoints {
		if e.metadata != "" {
			m[e.metadata] = issuer + e.path
			m[e.metadata+"_auth_methods_supported"] = e.auth
		}
	}
	doc, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("oauth: writing metadata: %w", err)
	}
	return doc, nil
}

// allows reports whether a method is one of the endpoint's.
func (e *endpoint) allows(method string) bool {
	for m := range strings.SplitSeq(e.methods, ", ") {
		if m == method {
			return true
		}
	}
	return false
}

// parseIssuer checks an issuer (RFC 8414 section 2).
func parseIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	switch {
	case err != nil:
		return nil, errors.New("oauth: issuer: not a URL") // the error would quote it, with its password
	case u.Host == "" || u.Opaque != "" || u.User != nil || strings.ContainsAny(issuer, "?#"):
		return nil, errors.New("oauth: issuer: want a URL with a host, without user, query and fragment, such as https://login.example.com")
	case strings.HasSuffix(u.Path, "/"):
		return nil, errors.New("oauth: issuer: want a URL without a slash at the end")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	default:
		return nil, errors.New("oauth: issuer: want an https URL; http is for loopback addresses alone")
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
