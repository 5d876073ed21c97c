package emulator

import (
	"context"
	"fmt"
	"io"
)

// RunStandalone serves a workspace on addr, a loopback address such as "127.0.0.1:7400", until
// ctx ends, and writes to out where it is and how an app reaches it. A zero cfg.Workspace
// becomes [Demo]. It is the whole of a command for people who test other programs with it.
func RunStandalone(ctx context.Context, addr string, out io.Writer, cfg Config) error {
	if cfg.Workspace.Users == nil && cfg.Workspace.Channels == nil && cfg.Workspace.UserGroups == nil {
		cfg.Workspace = Demo()
	}
	s := New(cfg) //nolint:contextcheck // what a driver endpoint begins may outlive its call
	defer s.Close()
	base, err := s.Start(ctx, addr)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, s.greeting(base, cfg)); err != nil {
		return fmt.Errorf("write where the emulator is: %w", err)
	}
	<-ctx.Done()
	return nil
}

// greeting shows the secrets that everybody knows because they are built in, and no others.
func (s *Server) greeting(base string, given Config) string {
	known := func(given, used Secret) string {
		if given != "" {
			return "(as configured)"
		}
		return string(used)
	}
	return fmt.Sprintf(`A local Slack for tests. Open it in a browser: %s/
Web API base URL:     %s/api/
bot token:            %s
app-level token:      %s
signing secret:       %s
interactions go to:   %s
events go to:         %s
slash commands go to: %s
Change any of it while it runs with POST %s/_emulator/...; see the package's README.
`, base, base, known(given.BotToken, s.cfg.BotToken), known(given.AppToken, s.cfg.AppToken), known(given.SigningSecret, s.cfg.SigningSecret),
		orNowhere(s.cfg.InteractionsURL, s.cfg.SocketMode), orNowhere(s.cfg.EventsURL, s.cfg.SocketMode), orNowhere(s.cfg.CommandsURL, s.cfg.SocketMode), base)
}

func orNowhere(url string, sockets bool) string {
	switch {
	case sockets:
		return "the web sockets of Socket Mode"
	case url == "":
		return "nobody yet"
	default:
		return url
	}
}
