package emulator

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
)

// maxBody bounds every request body the emulator reads.
const maxBody = 1 << 20

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/{method}", s.serveAPI)
	mux.HandleFunc("GET /link/{$}", s.serveSocket)
	mux.HandleFunc("POST /actions/{team}/{id}/{secret}", s.serveResponseURL)
	mux.Handle("/_emulator/", http.NewCrossOriginProtection().Handler(s.driver()))
	s.pageRoutes(mux)
	return s.onlyLoopbackHosts(mux)
}

// onlyLoopbackHosts refuses requests that name another host, which is how a web page whose
// name was rebound to 127.0.0.1 would arrive, and bounds the body of the rest.
func (s *Server) onlyLoopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopbackName(hostOf(r.Host)) {
			s.log.WarnContext(r.Context(), "slack emulator refused a host", slog.String("host", r.Host))
			http.Error(w, "this server answers to loopback names only", http.StatusForbidden)
			return
		}
		s.learnBaseURL(r)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func (s *Server) learnBaseURL(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.baseURL == "" {
		s.baseURL = "http://" + r.Host
	}
}
