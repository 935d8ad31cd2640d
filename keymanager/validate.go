package keymanager

import (
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The Validate functions check the form of an object that comes from outside:
// every field, alone and against the others, without looking anything up. They
// return one FieldError for each thing wrong, with a JSON pointer in the names
// of the management API (the field's name in camel case: authType in
// "/resources/0/authType"; "/cors/allowOrigins/1"), and a text that says what
// is allowed. None returned means that the object is well formed; whether what
// it names exists is for the caller to find out.

// Limits of what an object may hold.
const (
	maxName        = 100 // characters of a name
	maxLabel       = 63  // of an organization, a user store, a tier, a gateway label
	maxDisplayName = 200 // bytes of a text for people
	maxContext     = 200
	maxVersion     = 30
	maxURL         = 500
	maxPath        = 500
	maxScope       = 128
	maxHosts       = 50
	maxEndpoints   = 32 // of one environment
	maxResources   = 2000
	maxScopes      = 50 // of one resource, and of one application
	maxTiers       = 50
	maxLabels      = 50
	maxCORS        = 50 // of each list
	maxAttributes  = 50
	maxAttribute   = 1000 // bytes of one value
	maxNetworks    = 50
	maxReferers    = 50
	maxReferer     = 300
)

// problems collects what is wrong.
type problems []FieldError

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, FieldError{Path: path, Detail: fmt.Sprintf(format, args...)})
}

// size reports whether a list is small enough to look at, and adds a problem
// if it is not.
func (p *problems) size(path string, n, limit int) bool {
	if n > limit {
		p.add(path, "holds %d entries; at most %d are allowed", n, limit)
	}
	return n <= limit
}

// child returns the pointer of a member or an element below path (RFC 6901
// section 3).
func child(path string, key any) string {
	s := strings.ReplaceAll(fmt.Sprint(key), "~", "~0")
	return path + "/" + strings.ReplaceAll(s, "/", "~1")
}

// unique adds a problem for each entry of list that stood there before.
func unique[T comparable](p *problems, path string, list []T) {
	seen := make(map[T]int, len(list))
	for i, v := range list {
		if first, dup := seen[v]; dup {
			p.add(child(path, i), "repeats entry %d; each may stand once", first)
			continue
		}
		seen[v] = i
	}
}

// oneOf adds a problem unless v is one of allowed.
func oneOf[T ~string](p *problems, path string, v T, allowed ...T) {
	for _, a := range allowed {
		if v == a {
			return
		}
	}
	texts := make([]string, len(allowed))
	for i, a := range allowed {
		texts[i] = fmt.Sprintf("%q", string(a))
	}
	p.add(path, "must be one of %s", strings.Join(texts, ", "))
}

// ValidateOrganization checks an organization.
func ValidateOrganization(o *Organization) []FieldError {
	var p problems
	if !isLabel(string(o.ID), lower, ".-") {
		p.add("/name", "must be 1 to %d lower-case letters, digits, \".\" and \"-\", with a letter or digit at both ends and no two signs in a row", maxLabel)
	}
	p.text("/displayName", o.DisplayName, maxDisplayName)
	return p
}

// ValidateUser checks a user.
func ValidateUser(u *User) []FieldError {
	var p problems
	if !isName(u.Name, "._@+-") {
		p.add("/name", "must be 1 to %d letters, digits and any of \"._@+-\", and start with a letter or digit", maxName)
	}
	if !isLabel(u.UserStore, upper, "._-") {
		p.add("/userStore", "must be 1 to %d upper-case letters, digits and any of \"._-\", with a letter or digit at both ends; %s is the key manager's own", maxLabel, PrimaryUserStore)
	}
	if u.Email != "" && !isEmail(u.Email) {
		p.add("/email", "must be one address such as name@example.com, without a display name, of at most 254 characters")
	}
	oneOf(&p, "/status", u.Status, UserActive, UserDisabled)
	return p
}

// ValidateTier checks a throttling tier.
func ValidateTier(t *Tier) []FieldError {
	var p problems
	p.tier("/name", t.Name)
	p.text("/displayName", t.DisplayName, maxDisplayName)
	if t.Requests < 0 || t.Requests > 1e12 {
		p.add("/requests", "must be from 0 (unlimited) to 1000000000000")
	}
	switch t.Unit {
	case time.Second, time.Minute, time.Hour, 24 * time.Hour:
	default:
		p.add("/unit", "must be a second, a minute, an hour or a day")
	}
	if t.Name == Unlimited && t.Requests != 0 {
		p.add("/requests", "must be 0 for the tier %s", Unlimited)
	}
	return p
}

// name checks the name of an application, an API, a subscription or a key:
// it is shown to people and sent to back ends in headers.
func (p *problems) name(path, s string) {
	if !isName(s, " ._@+-") || strings.HasSuffix(s, " ") || strings.Contains(s, "  ") {
		p.add(path, "must be 1 to %d letters (A-Z, a-z), digits, any of \"._@+-\" and single spaces between them, and start with a letter or digit", maxName)
	}
}

// isName reports whether s starts with a letter or digit and goes on with
// these and signs.
func isName(s, signs string) bool {
	if len(s) == 0 || len(s) > maxName || !isAlnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte(signs, s[i]) < 0 {
			return false
		}
	}
	return true
}

// tier checks the name of a tier.
func (p *problems) tier(path string, t TierName) {
	if !isLabel(string(t), alnum, "._-") {
		p.add(path, "must be 1 to %d letters, digits and any of \"._-\", with a letter or digit at both ends", maxLabel)
	}
}

// text checks words for people: any script, no control characters.
func (p *problems) text(path, s string, limit int) {
	if len(s) > limit || !printable(s) {
		p.add(path, "must be at most %d bytes of UTF-8 text without control characters", limit)
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func isEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s && len(s) <= 254 &&
		strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= utf8.RuneSelf-1 }) < 0
}

// The alphabets of labels.
func lower(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func upper(c byte) bool { return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
func alnum(c byte) bool { return isAlnum(c) }

func isAlnum(c byte) bool { return lower(c) || upper(c) }

// isLabel reports whether s is a run of letters of an alphabet, held together
// by single signs.
func isLabel(s string, letter func(byte) bool, signs string) bool {
	if len(s) == 0 || len(s) > maxLabel {
		return false
	}
	sign := true // as if one stood before: s may not start with a sign
	for i := range len(s) {
		switch {
		case letter(s[i]):
			sign = false
		case !sign && strings.IndexByte(signs, s[i]) >= 0:
			sign = true
		default:
			return false
		}
	}
	return !sign
}
