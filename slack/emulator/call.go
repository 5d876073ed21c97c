package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// apiError is an error as Slack's Web API reports it: a word and sometimes more fields.
type apiError struct {
	code  string
	extra object
	// status is the HTTP status, 0 for 200, which is what Slack answers nearly always.
	status     int
	retryAfter int // seconds, 0 for no such header
}

func (e *apiError) Error() string { return e.code }

func fail(code string) error { return &apiError{code: code} }

func invalid(code string, problems []string) error {
	return &apiError{code: code, extra: object{
		"errors":            problems,
		"response_metadata": object{"messages": withErrorMark(problems)},
	}}
}

// call is one request to a Web API method; the server's lock is held while it runs.
type call struct {
	*Server
	args object
	now  time.Time
	tok  *token
}

// botCall is a call made for the app's own token, for wire forms in events and payloads; the
// lock is held.
func (s *Server) botCall() *call {
	return &call{Server: s, args: object{}, now: s.now(), tok: s.botToken()}
}

// endpoint is one Web API method.
type endpoint struct {
	scope     string  // what its token needs, "" for nothing or when that depends on the arguments
	perMinute float64 // its rate limit, 0 for none
	kind      tokenKind
	run       func(*call) (object, error)
}

func endpoints() map[string]endpoint {
	return map[string]endpoint{
		"apps.connections.open": {"connections:write", tier1, appToken, openConnection},
		"auth.test":             {"", hundreds, botToken, authTest},
		"bots.info":             {"users:read", tier3, botToken, botInfo},
		"chat.delete":           {"chat:write", tier3, botToken, deleteMessage},
		"chat.getPermalink":     {"", hundreds, botToken, getPermalink},
		"chat.postEphemeral":    {"chat:write", tier4, botToken, postEphemeral},
		"chat.postMessage":      {"chat:write", 0, botToken, postMessage},
		"chat.update":           {"chat:write", tier3, botToken, updateMessage},
		"conversations.history": {"", tier3, botToken, history},
		"conversations.info":    {"", tier3, botToken, conversationInfo},
		"conversations.join":    {"channels:join", tier3, botToken, joinConversation},
		"conversations.list":    {"", tier2, botToken, conversationList},
		"conversations.members": {"", tier4, botToken, conversationMembers},
		"conversations.open":    {"im:write", tier3, botToken, openConversation},
		"conversations.replies": {"", tier3, botToken, replies},
		"oauth.v2.access":       {"", hundreds, noToken, refreshAccess},
		"reactions.add":         {"reactions:write", tier3, botToken, addReaction},
		"team.info":             {"team:read", tier3, botToken, teamInfo},
		"usergroups.list":       {"usergroups:read", tier2, botToken, groupList},
		"usergroups.users.list": {"usergroups:read", tier2, botToken, groupMembers},
		"users.info":            {"users:read", tier4, botToken, userInfo},
		"users.list":            {"users:read", tier2, botToken, userList},
		"users.lookupByEmail":   {"users:read.email", tier3, botToken, userByEmail},
		"views.open":            {"", tier4, botToken, openView},
		"views.publish":         {"", tier4, botToken, publishView},
		"views.push":            {"", tier4, botToken, pushView},
		"views.update":          {"", tier4, botToken, updateView},
	}
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("method")
	fault := s.takeFault(name)
	if s.meet(fault, w, r) {
		return
	}
	answer := s.answer(name, r)
	if s.meetAfter(fault, w) {
		return
	}
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	answer.write(w)
}

// reply is the answer to one call, encoded while the lock was held.
type reply struct {
	status     int
	retryAfter int
	scopes     []string // of the token; nil when there is none
	needs      string   // the scope the method asks for
	body       string
}

func (a reply) write(w http.ResponseWriter) {
	if a.scopes != nil {
		w.Header().Set("X-OAuth-Scopes", strings.Join(a.scopes, ","))
		w.Header().Set("X-Accepted-OAuth-Scopes", a.needs)
	}
	if a.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	writeText(w, a.status, a.body)
}

// answer runs one method. Like Slack it answers errors of every kind but rate limits in the
// body of a 200.
func (s *Server) answer(name string, r *http.Request) reply {
	args, err := readArgs(r)
	if err != nil {
		return reply{status: http.StatusOK, body: encode(failure(err))}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	do, known := endpoints()[name]
	if !known {
		return reply{status: http.StatusOK, body: encode(object{"ok": false, "error": "unknown_method", "req_method": name})}
	}
	c := &call{Server: s, args: args, now: s.now()}
	out, err := c.perform(name, do, r)
	a := reply{status: http.StatusOK, needs: do.scope}
	if c.tok != nil {
		a.scopes = append([]string{}, c.tok.scopes...)
	}
	var e *apiError
	if errors.As(err, &e) && e.status != 0 {
		a.status, a.retryAfter = e.status, e.retryAfter
	}
	a.body = encode(out)
	return a
}

// perform checks token, limits and scope, in this order, and runs the method.
func (c *call) perform(name string, do endpoint, r *http.Request) (object, error) {
	out, err := func() (object, error) {
		if err := c.authenticate(r, do.kind); err != nil {
			return nil, err
		}
		if err := c.overLimit(name, do.perMinute); err != nil {
			return nil, err
		}
		if err := c.need(do.scope); err != nil {
			return nil, err
		}
		return do.run(c)
	}()
	if err != nil {
		return failure(err), err
	}
	out["ok"] = true
	return withCharsetWarning(r, out), nil
}

func failure(err error) object {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: "internal_error"}
	}
	out := object{"ok": false, "error": e.code}
	for k, v := range e.extra {
		out[k] = v
	}
	return out
}

// need refuses unless the token has the scope; methods whose scope depends on the kind of
// channel call it themselves.
func (c *call) need(scope string) error {
	var provided []string
	if c.tok != nil {
		provided = c.tok.scopes
	}
	if hasScope(provided, scope) {
		return nil
	}
	return &apiError{code: "missing_scope", extra: object{"needed": scope, "provided": strings.Join(provided, ",")}}
}

// bearer returns the token of a request. Slack takes it from the header or from a form body,
// never from the URL or from JSON.
func bearer(r *http.Request) string {
	if word := headerToken(r); word != "" {
		return word
	}
	return r.PostForm.Get("token")
}

func contentType(r *http.Request) string {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind
}

// readArgs reads the arguments of a call from its query and its form or JSON body.
func readArgs(r *http.Request) (object, error) {
	args := object{}
	for k, v := range r.URL.Query() {
		args[k] = v[0]
	}
	if r.Method == http.MethodGet {
		return args, nil
	}
	switch contentType(r) {
	case "application/x-www-form-urlencoded", "multipart/form-data":
		return readForm(r, args)
	case "application/json":
		return readJSON(r, args)
	case "":
		return args, nil
	default:
		return nil, fail("invalid_post_type")
	}
}

func readForm(r *http.Request, args object) (object, error) {
	// ParseMultipartForm would hide what ParseForm says of a form that is not multipart.
	if err := r.ParseForm(); err != nil {
		return nil, fail("invalid_form_data")
	}
	if err := r.ParseMultipartForm(maxBody); err != nil && !errors.Is(err, http.ErrNotMultipart) { //nolint:gosec // onlyLoopbackHosts bounds every body
		return nil, fail("invalid_form_data")
	}
	for k, v := range r.PostForm {
		args[k] = v[0]
	}
	return args, nil
}

func readJSON(r *http.Request, args object) (object, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fail("request_timeout")
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil, fail("invalid_json")
	}
	body, ok := v.(object)
	if !ok {
		return nil, fail("json_not_object")
	}
	for k, v := range body {
		args[k] = v
	}
	return args, nil
}

// withCharsetWarning adds the warning Slack gives for JSON without a charset.
func withCharsetWarning(r *http.Request, out object) object {
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if contentType(r) == "application/json" && params["charset"] == "" {
		out["warning"] = "missing_charset"
		meta, _ := out["response_metadata"].(object)
		if meta == nil {
			meta = object{}
		}
		meta["warnings"] = []string{"missing_charset"}
		out["response_metadata"] = meta
	}
	return out
}

// str returns a string argument, or "".
func (c *call) str(name string) string {
	switch v := c.args[name].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return ""
	}
}

// flag returns a boolean argument in any of the spellings Slack takes.
func (c *call) flag(name string) bool {
	switch v := c.args[name].(type) {
	case bool:
		return v
	case string:
		return v == "true" || v == "1"
	default:
		return false
	}
}

// limit returns the page size: the argument, or usual, at most 999.
func (c *call) limit(usual int) int {
	n, err := strconv.Atoi(c.str("limit"))
	if err != nil || n <= 0 {
		return usual
	}
	return min(n, 999)
}

// structured returns an argument that is JSON: as such, or as a string of JSON in a form.
func (c *call) structured(name string) (v any, given bool, err error) {
	v, given = c.args[name]
	s, isText := v.(string)
	switch {
	case !given || v == nil || isText && s == "":
		return nil, false, nil
	case !isText:
		return v, true, nil
	}
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return nil, true, fmt.Errorf("decode %s: %w", name, err)
	}
	return v, true, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) { writeText(w, status, encode(v)) }

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// encode returns v as JSON without HTML escaping, which is how Slack writes it.
func encode(v any) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null"
	}
	return strings.TrimSuffix(buf.String(), "\n")
}
