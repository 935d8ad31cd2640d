package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

const (
	jwtIssuer   = "https://km.example.com"
	jwtAudience = "gateway"
)

// signedTokens returns n distinct ES256 tokens and the JWKS that verifies them:
// what Envoy's own jwt_authn is measured with.
func signedTokens(n int) (tokens []string, jwks []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	header := b64([]byte(`{"alg":"ES256","kid":"k1","typ":"at+jwt"}`))
	now := time.Now()
	for i := range n {
		claims, err := json.Marshal(map[string]any{"iss": jwtIssuer, "aud": jwtAudience, "sub": fmt.Sprintf("app-%d", i),
			"iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(), "jti": fmt.Sprintf("%032x", i), "scope": "read write"})
		if err != nil {
			return nil, nil, err
		}
		signed := header + "." + b64(claims)
		sum := sha256.Sum256([]byte(signed))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, nil, err
		}
		tokens = append(tokens, signed+"."+b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))
	}
	point, err := key.PublicKey.Bytes() // uncompressed: 4, x, y
	if err != nil {
		return nil, nil, err
	}
	jwks, err = json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig",
		"x": b64(point[1:33]), "y": b64(point[33:])}}})
	return tokens, jwks, err
}
