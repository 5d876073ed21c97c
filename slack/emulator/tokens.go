package emulator

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Token is one of the app's tokens.
type Token struct {
	// Token is the word itself; one that begins with "xapp-" is an app-level token.
	Token Secret `json:"token"`
	// Scopes are what it may do. Nil: nothing that needs a scope.
	Scopes []string `json:"scopes"`
	// Error is what every use of the token is answered with, such as "token_revoked". Zero:
	// the token is good.
	Error string `json:"error,omitempty"`
}

// tokenKind says which tokens a method takes.
type tokenKind int

const (
	botToken tokenKind = iota // bot tokens, from the header or a form
	appToken                  // app-level tokens, from the header only
	noToken                   // none: the app proves itself otherwise
)

// token is what the server knows of a Token.
type token struct {
	scopes   []string
	app      bool
	rotating bool
	expires  time.Time // zero for never
	dead     string    // the error of every use, "" while it is good
}

const (
	accessLife = 12 * time.Hour
	// refreshGrace is how long a used refresh token still answers, with what it was exchanged
	// for; Slack says that there is a short grace period and not how short.
	refreshGrace = time.Minute
	// maxRotating is how many access tokens of a rotation are good at once.
	maxRotating = 2
)

// refresh is a refresh token: used once, it remembers for what.
type refresh struct {
	usedAt time.Time // zero while unused
	answer object
}

func (s *Server) seedTokens() {
	s.tokens, s.refreshes = map[string]*token{}, map[string]*refresh{}
	bot := &token{scopes: s.cfg.Scopes}
	if s.cfg.RefreshToken != "" {
		s.refreshes[string(s.cfg.RefreshToken)] = &refresh{}
		bot.rotating, bot.expires = true, s.now().Add(accessLife)
		s.rotating = append(s.rotating, bot)
	}
	s.tokens[string(s.cfg.BotToken)] = bot
	s.tokens[string(s.cfg.AppToken)] = &token{scopes: s.cfg.AppScopes, app: true}
	for _, t := range s.cfg.Tokens {
		s.putToken(t)
	}
}

// PutToken adds a token, or changes what an existing one may do.
func (s *Server) PutToken(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putToken(t)
	s.touch()
}

func (s *Server) putToken(t Token) {
	word := string(t.Token)
	s.tokens[word] = &token{scopes: slices.Clone(t.Scopes), app: strings.HasPrefix(word, "xapp-"), dead: t.Error}
}

// SetScopes replaces the scopes of the bot token, as a new installation would.
func (s *Server) SetScopes(scopes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Scopes = slices.Clone(scopes)
	for _, t := range append(slices.Clone(s.rotating), s.tokens[string(s.cfg.BotToken)]) {
		t.scopes = s.cfg.Scopes
	}
	s.touch()
}

// SetSigningSecret replaces the secret that signs what is sent to the app from now on.
func (s *Server) SetSigningSecret(secret Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signing = cmp.Or(secret, s.cfg.SigningSecret)
}

// botToken is what the app may do when Slack speaks to it of its own accord.
func (s *Server) botToken() *token { return s.tokens[string(s.cfg.BotToken)] }

// authenticate finds the token of a call and refuses one that is not good for it.
func (c *call) authenticate(r *http.Request, kind tokenKind) error {
	switch kind {
	case noToken:
		if id, secret, ok := r.BasicAuth(); ok {
			c.args["client_id"], c.args["client_secret"] = id, secret
		}
	case appToken:
		return c.useToken(headerToken(r), true)
	case botToken:
		return c.useToken(bearer(r), false)
	}
	return nil
}

func (c *call) useToken(word string, app bool) error {
	t := c.tokens[word]
	switch {
	case word == "":
		return fail("not_authed")
	case app != strings.HasPrefix(word, "xapp-"):
		return fail("not_allowed_token_type")
	case t == nil:
		return fail("invalid_auth")
	case t.dead != "":
		return fail(t.dead)
	case !app && c.authError != "":
		return fail(c.authError)
	case !t.expires.IsZero() && !c.now.Before(t.expires):
		return fail("token_expired")
	}
	c.tok = t
	return nil
}

// refreshAccess is oauth.v2.access for a refresh token: a new access token and the next
// refresh token. The used one still answers the same for a short while, so that an app that
// lost the answer can ask again.
func refreshAccess(c *call) (object, error) {
	id, secret := c.str("client_id"), c.str("client_secret")
	old := c.refreshes[c.str("refresh_token")]
	switch {
	case id != c.cfg.ClientID:
		return nil, fail("invalid_client_id")
	case secret != string(c.cfg.ClientSecret):
		return nil, fail("bad_client_secret")
	case c.str("grant_type") != "refresh_token":
		return nil, fail("invalid_grant_type")
	case old == nil:
		return nil, fail("invalid_refresh_token")
	case old.usedAt.IsZero():
		old.usedAt, old.answer = c.now, c.rotate()
	case c.now.Sub(old.usedAt) > refreshGrace:
		return nil, fail("invalid_refresh_token")
	}
	out := object{}
	for k, v := range old.answer {
		out[k] = v
	}
	return out, nil
}

// rotate makes the next pair of tokens and revokes the oldest access token when there would
// be three.
func (c *call) rotate() object {
	access := "xoxe.xoxb-1-" + c.nextID("") + c.nextID("")
	next := "xoxe-1-" + c.nextID("") + c.nextID("")
	t := &token{scopes: c.cfg.Scopes, rotating: true, expires: c.now.Add(accessLife)}
	c.tokens[access], c.refreshes[next] = t, &refresh{}
	c.rotating = append(c.rotating, t)
	for len(c.rotating) > maxRotating {
		c.rotating[0].dead = "token_revoked"
		c.rotating = c.rotating[1:]
	}
	return object{
		"app_id": c.cfg.AppID, "authed_user": object{"id": c.cfg.BotUserID}, "scope": strings.Join(c.cfg.Scopes, ","),
		"token_type": "bot", "access_token": access, "refresh_token": next, "expires_in": int(accessLife.Seconds()),
		"bot_user_id": c.cfg.BotUserID, "team": object{"id": c.cfg.TeamID, "name": c.cfg.TeamName},
		"enterprise": c.enterprise(), "is_enterprise_install": c.cfg.OrgInstall,
	}
}

// enterprise is the organisation as payloads name it, null outside of a Grid.
func (s *Server) enterprise() any {
	if s.cfg.EnterpriseID == "" {
		return nil
	}
	return object{"id": s.cfg.EnterpriseID, "name": s.cfg.EnterpriseName}
}

// inTeam refuses the calls that need to name the workspace when the token is the whole
// organisation's.
func (c *call) inTeam() error {
	team := c.str("team_id")
	switch {
	case c.cfg.OrgInstall && team == "":
		return &apiError{code: "missing_argument", extra: object{"response_metadata": object{"messages": []string{"[ERROR] missing required field: team_id"}}}}
	case c.cfg.OrgInstall && team != c.cfg.TeamID:
		return fail("team_access_not_granted")
	}
	return nil
}

// headerToken returns the token of the Authorization header, "" if there is none.
func headerToken(r *http.Request) string {
	word, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return strings.TrimSpace(word)
}
