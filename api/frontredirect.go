package api

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/policy"
)

// redirected reports whether clients follow the Location of an answer by themselves.
func redirected(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// frontLocation is where a redirect of an upstream leads a client of the front. The client has
// asked us, so that it would take what is relative for an address of ours, and go there with
// its key: to a place of the upstream it is led through the front, to any other of ours or to
// what cannot be asked for, nowhere ("").
func (o operations) frontLocation(c echo.Context, up policy.Upstream, call approvals.Call, location string) string {
	base := strings.TrimSuffix(up.BaseURL.EscapedPath(), "/")
	asked, err := url.Parse(up.BaseURL.Scheme + "://" + up.BaseURL.Host + base + call.Path)
	if err != nil {
		return ""
	}
	to, err := asked.Parse(location)
	switch {
	case err != nil, to.Host == "", to.Scheme != "http" && to.Scheme != "https":
		return ""
	case to.Scheme == up.BaseURL.Scheme && strings.EqualFold(to.Host, up.BaseURL.Host) && to.User == nil:
		if through := o.through(up, base, to); through != "" {
			return through
		}
	}
	if named, err := url.Parse(location); err != nil || named.Host == "" || named.Scheme == "" || o.ours(c, to.Hostname()) {
		return ""
	}
	return location
}

// through is the address at the front of a place of an upstream, "" when it has none.
func (o operations) through(up policy.Upstream, base string, to *url.URL) string {
	path, below := strings.CutPrefix(to.EscapedPath(), base)
	if path == "" {
		path = "/"
	}
	if !below || o.checkCall(path, to.RawQuery, nil) != nil {
		return ""
	}
	out := frontPath + up.Name + path
	if to.RawQuery != "" {
		out += "?" + to.RawQuery
	}
	if to.Fragment != "" {
		out += "#" + to.EscapedFragment()
	}
	return out
}

// ours reports whether a host is one that clients know us by, or below it: some send a key
// there, too.
func (o operations) ours(c echo.Context, host string) bool {
	asked := c.Request().Host
	if name, _, err := net.SplitHostPort(asked); err == nil {
		asked = name
	}
	public := ""
	if u, err := url.Parse(o.publicURL); err == nil {
		public = u.Hostname()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, name := range []string{asked, public} {
		name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
		if name != "" && (host == name || strings.HasSuffix(host, "."+name)) {
			return true
		}
	}
	return false
}
