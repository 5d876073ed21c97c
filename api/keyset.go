package api

import (
	"context"
	"fmt"
	"net/http"
)

// Jwks shows the public keys that callbacks are signed with. It is for programs of others,
// which may keep it for some minutes.
func (o operations) Jwks(context.Context, JwksRequestObject) (JwksResponseObject, error) {
	set := keySet(`{"keys":[]}`)
	if o.keySet != nil {
		set = o.keySet()
	}
	return set, nil
}

// keySet is a JWK set as it is sent.
type keySet []byte

// VisitJwksResponse writes it.
func (k keySet) VisitJwksResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	if _, err := w.Write(k); err != nil {
		return fmt.Errorf("write the key set: %w", err)
	}
	return nil
}
