package api_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign"
	"countersign/api"
	"countersign/approvals"
	"countersign/egress"
)

// TestContractCallbacks has rows about what the API says of callbacks. How they are sent is
// proven where they are.
func TestContractCallbacks(t *testing.T) {
	t.Parallel()
	t.Run("event types of tickets are at least those of the contract", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for _, name := range []string{
			"created", "question_asked", "answered", "approved", "denied", "expired", "cancelled", "escalated", "executing",
			"succeeded", "failed", "outcome_unknown", "resolved",
		} {
			require.True(t, slices.Contains(approvals.CallbackEvents(), approvals.EventType("ticket."+name)), "ticket.%s", name)
		}
	})
	t.Run("public keys at /.well-known/jwks.json, for everybody", func(t *testing.T) {
		t.Parallel()
		proves(t)
		key, err := egress.ParseSigningKey("whsk_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
		require.NoError(t, err, "make a key")
		set := egress.JWKS([]egress.SigningKey{key})
		published := func(b *bundle) string {
			r := b.do(t, call{method: "GET", path: "/.well-known/jwks.json", key: "-"})
			require.Equal(t, []any{http.StatusOK, "application/json"}, []any{r.status, r.header.Get("Content-Type")}, "%s", r.raw)
			return string(r.raw)
		}
		signs := setupOn(t, broken{}, func(c *api.Config) { c.KeySet = func() []byte { return set } })
		require.Equal(t, string(set), published(signs), "the set")
		require.JSONEq(t, `{"keys":[]}`, published(setupOn(t, broken{})), "without keys")
	})
	t.Run("the document has them as callbacks of the submit and as webhooks", func(t *testing.T) {
		t.Parallel()
		proves(t)
		spec, err := loadContract()
		require.NoError(t, err, "load openapi.yaml")
		event := spec.doc.Paths.Value("/v1/tickets").Post.Callbacks["ticketEvent"]
		require.NotNil(t, event, "the callback")
		require.NotNil(t, event.Value.Value("{$request.body#/callback/url}"), "where it goes")
		require.Contains(t, string(countersign.OpenAPI), "\nwebhooks:\n", "webhooks, for tools that read those only")
	})
}
