package emulator_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// callAs calls a method with another token than the bundle's, in the header.
func (b *bundle) callAs(token, method string, args ...string) (object, http.Header) {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	status, h, body := b.do(http.MethodPost, "/api/"+method, "application/x-www-form-urlencoded", form.Encode(), "Authorization", "Bearer "+token)
	require.Equal(b.t, http.StatusOK, status)
	return decode(b.t, body), h
}

func TestRule1EachTokenHasItsOwnScopes(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) {
		c.Tokens = []emulator.Token{{Token: "xoxb-small", Scopes: []string{"users:read"}}, {Token: "xoxb-gone", Error: "account_inactive"}}
	})
	out, h := b.callAs("xoxb-small", "users.info", "user", ana)
	require.Equal(t, true, out["ok"])
	require.Equal(t, "users:read", h.Get("X-OAuth-Scopes"))
	require.Equal(t, "users:read", h.Get("X-Accepted-OAuth-Scopes"))
	require.Nil(t, at(out, "user", "profile", "email"), "that token may not read addresses")
	out, h = b.callAs("xoxb-small", "chat.postMessage", "channel", channel, "text", "x")
	require.Equal(t, "missing_scope", out["error"])
	require.Equal(t, "chat:write", out["needed"])
	require.Equal(t, "users:read", out["provided"])
	require.Equal(t, "chat:write", h.Get("X-Accepted-OAuth-Scopes"))
	out, _ = b.callAs("xoxb-gone", "auth.test")
	require.Equal(t, "account_inactive", out["error"])
	b.slack.PutToken(emulator.Token{Token: "xoxb-small", Error: "token_revoked"})
	out, _ = b.callAs("xoxb-small", "auth.test")
	require.Equal(t, "token_revoked", out["error"])
	b.slack.SetScopes([]string{"users:read"})
	require.Equal(t, "users:read", b.refused("missing_scope", "chat.postMessage", "channel", channel, "text", "x")["provided"])
}

func TestRule1AppLevelTokensOpenConnectionsAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) {
		c.SocketMode, c.AppToken = true, "xapp-1"
		c.Tokens = []emulator.Token{{Token: "xapp-weak"}}
	})
	out, h := b.callAs("xapp-1", "apps.connections.open")
	require.Equal(t, true, out["ok"], out)
	require.Equal(t, "connections:write", h.Get("X-OAuth-Scopes"))
	for token, want := range map[string]string{"xapp-weak": "missing_scope", "xapp-other": "invalid_auth", "xoxb-test": "not_allowed_token_type"} {
		out, _ = b.callAs(token, "apps.connections.open")
		require.Equal(t, want, out["error"], token)
	}
	_, _, body := b.do("POST", "/api/apps.connections.open", "application/x-www-form-urlencoded", "token=xapp-1")
	require.Equal(t, "not_authed", decode(t, body)["error"], "the header is the only place for this token")
	out, _ = b.callAs("xapp-1", "chat.postMessage", "channel", channel, "text", "x")
	require.Equal(t, "not_allowed_token_type", out["error"])
}

// rotating is an app with token rotation turned on.
func rotating(c *emulator.Config) {
	c.BotToken, c.RefreshToken, c.ClientID, c.ClientSecret = "xoxe.xoxb-first", "xoxe-first", "client", "hush"
}

// rotate exchanges a refresh token.
func (b *bundle) rotate(refresh string) object {
	b.t.Helper()
	_, _, body := b.do("POST", "/api/oauth.v2.access", "application/x-www-form-urlencoded", url.Values{
		"client_id": {"client"}, "client_secret": {"hush"}, "grant_type": {"refresh_token"}, "refresh_token": {refresh},
	}.Encode())
	return decode(b.t, body)
}

func TestRule1RotatedTokensExpireAfterTwelveHours(t *testing.T) {
	t.Parallel()
	b := setup(t, rotating)
	out, _ := b.callAs("xoxe.xoxb-first", "auth.test")
	require.EqualValues(t, 43_200, out["expires_in"])
	next := b.rotate("xoxe-first")
	require.Equal(t, true, next["ok"], next)
	require.EqualValues(t, 43_200, next["expires_in"])
	access := next["access_token"].(string)
	require.True(t, strings.HasPrefix(access, "xoxe.xoxb-"), access)
	b.clock.Advance(12*time.Hour - time.Second)
	out, _ = b.callAs(access, "auth.test")
	require.Equal(t, true, out["ok"])
	b.clock.Advance(time.Second)
	out, _ = b.callAs(access, "auth.test")
	require.Equal(t, "token_expired", out["error"])
}

func TestRule1RefreshTokensAreGoodOnceWithAShortGrace(t *testing.T) {
	t.Parallel()
	b := setup(t, rotating)
	first := b.rotate("xoxe-first")
	require.Equal(t, first, b.rotate("xoxe-first"), "an app that lost the answer can ask again")
	b.clock.Advance(61 * time.Second)
	require.Equal(t, "invalid_refresh_token", b.rotate("xoxe-first")["error"])
	second := b.rotate(first["refresh_token"].(string))
	require.NotEqual(t, first["access_token"], second["access_token"])
	out, _ := b.callAs("xoxe.xoxb-first", "auth.test")
	require.Equal(t, "token_revoked", out["error"], "two access tokens are good at once, not three")
	for _, word := range []any{first["access_token"], second["access_token"]} {
		out, _ = b.callAs(word.(string), "auth.test")
		require.Equal(t, true, out["ok"])
	}
}

func TestRule1RotationWantsTheAppsOwnCredentials(t *testing.T) {
	t.Parallel()
	b := setup(t, rotating)
	for want, args := range map[string][]string{
		"invalid_client_id":     {"client_id", "other", "client_secret", "hush", "grant_type", "refresh_token", "refresh_token", "xoxe-first"},
		"bad_client_secret":     {"client_id", "client", "client_secret", "no", "grant_type", "refresh_token", "refresh_token", "xoxe-first"},
		"invalid_grant_type":    {"client_id", "client", "client_secret", "hush"},
		"invalid_refresh_token": {"client_id", "client", "client_secret", "hush", "grant_type", "refresh_token", "refresh_token", "xoxe-no"},
	} {
		out, _ := b.callAs("none", "oauth.v2.access", args...)
		require.Equal(t, want, out["error"])
	}
	_, _, body := b.do("POST", "/api/oauth.v2.access", "application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=xoxe-first",
		"Authorization", "Basic Y2xpZW50Omh1c2g=")
	require.Equal(t, true, decode(t, body)["ok"], body)
}
