package keymanager

import (
	"net/url"
	"strconv"
	"strings"
)

// endpoints checks the back ends of an API. All of them share one base path:
// the path is rewritten once for a route, before the environment is chosen.
func (p *problems) endpoints(a *API) {
	base, baseOf := "", ""
	for _, env := range []struct {
		path string
		urls []string
	}{{"/production", a.Production}, {"/sandbox", a.Sandbox}} {
		if !p.size(env.path, len(env.urls), maxEndpoints) {
			continue
		}
		for i, raw := range env.urls {
			at := child(env.path, i)
			u, why := parseEndpoint(raw)
			if why != "" {
				p.add(at, "%s: it must be http or https, a host, a port if need be, and a base path, such as https://pets.example.com:8443/v1", why)
				continue
			}
			path := strings.TrimRight(u.EscapedPath(), "/")
			switch {
			case a.Protocol == GRPC && path != "":
				p.add(at, "must have no path: a gRPC method is called at /package.Service/Method, which cannot be moved")
			case baseOf == "":
				base, baseOf = path, at
			case path != base:
				p.add(at, "has the base path %q, but %s has %q: all endpoints of an API, production and sandbox, share one base path, because Envoy rewrites the path before it chooses an endpoint", path, baseOf, base)
			}
		}
		unique(p, env.path, env.urls)
	}
}

// parseEndpoint parses the URL of a back end, or says what is wrong with it.
func parseEndpoint(raw string) (u *url.URL, why string) {
	if len(raw) > maxURL {
		return nil, "is longer than " + strconv.Itoa(maxURL) + " characters"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, "is not a URL" // the error repeats the URL, perhaps with a password
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "has no scheme http or https"
	case u.User != nil:
		return nil, "holds a user name or password"
	case u.RawQuery != "" || u.ForceQuery:
		return nil, "holds a query"
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, "holds a fragment"
	case !endpointHost(u.Host):
		return nil, "has no valid host"
	case !endpointPort(u):
		return nil, "has a port that is not from 1 to 65535"
	}
	if path := strings.TrimSuffix(u.EscapedPath(), "/"); path != "" {
		if why := pathProblem(path); why != "" {
			return nil, "has a base path that " + why
		}
	}
	return u, ""
}

// endpointHost reports whether the host of hostport is a name or an address.
func endpointHost(hostport string) bool {
	host := hostport
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
		host = hostport[:i]
	}
	host = strings.ToLower(host)
	return isHostName(host) || isHostAddress(host)
}

func endpointPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == u.Port()
}
