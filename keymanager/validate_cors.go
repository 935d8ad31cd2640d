package keymanager

import (
	"strings"
	"time"
)

// cors checks a cross-origin policy (Fetch standard, section 3.3). With
// credentials a browser reads "*" as a name, not as "all", so it is refused.
func (p *problems) cors(c *CORS) {
	if c == nil {
		return
	}
	const origins = "/cors/allowOrigins"
	if len(c.AllowOrigins) == 0 {
		p.add(origins, "needs at least one origin; leave out cors to allow none")
	}
	if p.size(origins, len(c.AllowOrigins), maxCORS) {
		for i, o := range c.AllowOrigins {
			switch {
			case o == "*" && len(c.AllowOrigins) > 1:
				p.add(child(origins, i), "must stand alone: \"*\" allows every origin")
			case o == "*" && c.AllowCredentials:
				p.add(child(origins, i), "must not be \"*\" together with allowCredentials: name the origins")
			case o != "*" && !isOrigin(o):
				p.add(child(origins, i), "must be \"*\" or an origin in lower case: scheme http or https, host, and a port if it is not the scheme's own, without path, such as https://app.example.com")
			}
		}
		unique(p, origins, c.AllowOrigins)
	}
	p.corsNames("/cors/allowMethods", c.AllowMethods, c.AllowCredentials, "one of "+strings.Join(Methods(), ", "), KnownMethod)
	p.corsNames("/cors/allowHeaders", c.AllowHeaders, c.AllowCredentials, "the name of a header", isToken)
	p.corsNames("/cors/exposeHeaders", c.ExposeHeaders, c.AllowCredentials, "the name of a header", isToken)
	if c.MaxAge < 0 || c.MaxAge > 24*time.Hour || c.MaxAge%time.Second != 0 {
		p.add("/cors/maxAge", "must be from 0 to 24h in whole seconds")
	}
}

func (p *problems) corsNames(path string, list []string, credentials bool, what string, ok func(string) bool) {
	if !p.size(path, len(list), maxCORS) {
		return
	}
	for i, s := range list {
		switch {
		case s == "*" && credentials:
			p.add(child(path, i), "must not be \"*\" together with allowCredentials: name them")
		case s != "*" && !ok(s):
			p.add(child(path, i), "must be \"*\" or %s", what)
		}
	}
	unique(p, path, list)
}

// isOrigin reports whether s is an origin as a browser sends it (RFC 6454
// section 6.2): a default port is left out.
func isOrigin(s string) bool {
	u, why := parseEndpoint(s)
	if why != "" || u.Path != "" || s != strings.ToLower(s) {
		return false
	}
	return !(u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443")
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return true
}
