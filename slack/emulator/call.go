package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apiError is an error as Slack's Web API reports it: a word and sometimes more fields.
type apiError struct {
	code  string
	extra object
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
}

// endpoint is one Web API method: the scope its token needs ("" for none) and what it does.
type endpoint struct {
	scope string
	run   func(*call) (object, error)
}

func endpoints() map[string]endpoint {
	return map[string]endpoint{
		"auth.test":             {"", authTest},
		"chat.postMessage":      {"chat:write", postMessage},
		"chat.update":           {"chat:write", updateMessage},
		"chat.delete":           {"chat:write", deleteMessage},
		"chat.postEphemeral":    {"chat:write", postEphemeral},
		"chat.getPermalink":     {"", getPermalink},
		"conversations.open":    {"im:write", openConversation},
		"conversations.info":    {"", conversationInfo},
		"conversations.history": {"", history},
		"conversations.replies": {"", replies},
		"users.info":            {"users:read", userInfo},
		"users.list":            {"users:read", userList},
		"users.lookupByEmail":   {"users:read.email", userByEmail},
		"usergroups.list":       {"usergroups:read", groupList},
		"usergroups.users.list": {"usergroups:read", groupMembers},
		"views.open":            {"", openView},
		"views.push":            {"", pushView},
		"views.update":          {"", updateView},
	}
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("method")
	fault := s.takeFault(name)
	if s.meet(fault, w, r) {
		return
	}
	answer := s.answer(name, r)
	if fault.kind() == CommitThenDrop {
		panic(http.ErrAbortHandler) // the connection drops with the work done
	}
	w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("X-OAuth-Scopes", strings.Join(s.cfg.Scopes, ","))
	writeText(w, http.StatusOK, answer)
}

// answer runs one method and returns its answer as JSON, encoded while the lock is held.
// Like Slack it answers errors of every kind in the body.
func (s *Server) answer(name string, r *http.Request) string {
	args, err := readArgs(r)
	if err != nil {
		return encode(failure(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return encode(s.run(name, r, args))
}

func (s *Server) run(name string, r *http.Request, args object) object {
	do, known := endpoints()[name]
	if !known {
		return object{"ok": false, "error": "unknown_method", "req_method": name}
	}
	c := &call{Server: s, args: args, now: s.cfg.Now()}
	if err := c.authorize(bearer(r), do.scope); err != nil {
		return failure(err)
	}
	out, err := do.run(c)
	if err != nil {
		return failure(err)
	}
	out["ok"] = true
	return withCharsetWarning(r, out)
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

// authorize checks the token, then the scope.
func (c *call) authorize(token, scope string) error {
	switch {
	case token == "":
		return fail("not_authed")
	case strings.HasPrefix(token, "xapp-"):
		return fail("not_allowed_token_type")
	case token != string(c.cfg.BotToken):
		return fail("invalid_auth")
	case c.authError != "":
		return fail(c.authError)
	}
	return c.need(scope)
}

// need refuses unless the token has the scope; methods whose scope depends on the kind of
// channel call it themselves.
func (c *call) need(scope string) error {
	if scope == "" || slices.Contains(c.cfg.Scopes, scope) {
		return nil
	}
	return &apiError{code: "missing_scope", extra: object{"needed": scope, "provided": strings.Join(c.cfg.Scopes, ",")}}
}

// bearer returns the token of a request. Slack takes it from the header or from a form body,
// never from the URL or from JSON.
func bearer(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return strings.TrimSpace(token)
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
	if err := r.ParseMultipartForm(maxBody); err != nil && !errors.Is(err, http.ErrNotMultipart) {
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
