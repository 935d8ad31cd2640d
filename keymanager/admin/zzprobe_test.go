package admin_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestZZProbe(t *testing.T) {
	w := newWorld(t)
	for _, who := range []string{stranger, orgAdmin} {
		for _, p := range []string{"/api/v1/organizations//audit", "/api/v1/organizations/%2f/audit", "/api/v1/organizations/%/audit", "/api/v1/organizations/default%00/audit", "/api/v1/organizations/Default/audit", "/api/v1/organizations/default/audit", "/api/v1/organizations/%64efault/audit","/api/v1/organizations/x%2f..%2fdefault/audit", "/api/v1/organizations/default/../other/audit", "/api/v1/organizations//apis"} {
			for _, m := range []string{"GET", "CONNECT", "HEAD"} {
			req, err := http.NewRequest(m, "http://x"+p, nil)
			if err != nil { t.Log(p, err); continue }
			req.Header.Set("Authorization", "Bearer "+who)
			rec := httptest.NewRecorder()
			w.handler.ServeHTTP(rec, req)
			b := rec.Body.String()
			if len(b) > 100 { b = b[:100] }
			t.Log(who, m, p, rec.Code, rec.Header().Get("Location"), b)
			}
		}
	}
}
