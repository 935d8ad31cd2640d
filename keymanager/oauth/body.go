package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Limits of a request.
const (
	maxBody    = 16 << 10
	maxDiscard = 256 << 10 // what is read of a body that is too large, so that its sender gets the answer
	maxParams  = 64
)

var bodies = sync.Pool{New: func() any { return new([maxBody + 1]byte) }}

// readBody reads the whole body, within the limit and the time allowed.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (string, *answer) {
	if r.Body == nil || r.Body == http.NoBody {
		return "", nil
	}
	conn := http.NewResponseController(w)
	hangUp := func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) } // long ago: reading ends, also that of the server
	timer := time.AfterFunc(s.o.BodyTimeout, hangUp)
	defer timer.Stop()

	buf := bodies.Get().(*[maxBody + 1]byte)
	defer bodies.Put(buf)
	for n := 0; ; {
		if n == len(buf) {
			a := bodyTooLarge
			// The server leaves the sender of more a moment to read the answer before
			// it cuts the connection. It knows of the limit from this reader alone,
			// which tells nobody but the server's own writer.
			if _, err := io.Copy(io.Discard, http.MaxBytesReader(unwrapped(w), r.Body, maxDiscard)); err != nil {
				hangUp()
				a.hangUp = true
			}
			return "", &a
		}
		got, err := r.Body.Read(buf[n:])
		n += got
		switch {
		case errors.Is(err, io.EOF) && n <= maxBody:
			return string(buf[:n]), nil
		case err != nil && !errors.Is(err, io.EOF):
			hangUp()
			a := bodyNotRead()
			return "", &a
		}
	}
}

// unwrapped returns the writer below those that the server's user put around it.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// form holds the parameters of a body, each of them once.
type form struct {
	params []param
	few    [8]param // memory of params unless there are more
}

type param struct{ name, value string }

// value returns the value of a parameter, "" if it is missing: an empty value
// is as if omitted (RFC 6749 section 3.2).
func (f *form) value(name string) string {
	for i := range f.params {
		if f.params[i].name == name {
			return f.params[i].value
		}
	}
	return ""
}

// readToken reads the form of an endpoint that is asked about a token, and
// returns the token.
func (f *form) readToken(r *http.Request, body string) (string, *answer) {
	if refused := f.readForm(r, body); refused != nil {
		return "", refused
	}
	value := f.value("token")
	if value == "" {
		return "", invalidRequest("token is missing")
	}
	return value, nil
}

// readForm takes the parameters from the body, and from nowhere else: secrets
// and tokens have no place in a URL.
func (f *form) readForm(r *http.Request, body string) *answer {
	if r.URL.RawQuery != "" {
		return invalidRequest("parameters belong in the body, not in the URL")
	}
	if !isForm(r.Header["Content-Type"]) {
		return invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	if problem := f.parse(body); problem != "" {
		return invalidRequest(problem)
	}
	return nil
}

func isForm(contentType []string) bool {
	const want = "application/x-www-form-urlencoded"
	if len(contentType) != 1 {
		return false
	}
	if contentType[0] == want {
		return true
	}
	got, _, err := mime.ParseMediaType(contentType[0])
	return err == nil && got == want
}

// parse reads an application/x-www-form-urlencoded body. It returns what is
// wrong with it, "" for nothing.
func (f *form) parse(body string) string {
	f.params = f.few[:0]
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		if len(f.params) == maxParams {
			return "there are too many parameters"
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return "the body is not well formed"
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return "the body is not well formed"
		}
		for i := range f.params {
			if f.params[i].name == name {
				return "a parameter is repeated"
			}
		}
		f.params = append(f.params, param{name, value})
	}
	return ""
}
