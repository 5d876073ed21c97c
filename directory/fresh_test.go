package directory_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/directory"
	"countersign/slack/emulator"
)

var (
	nobody []string
	live   = []string{"S0ONCALL"}
)

func TestFreshReadsWhatIsNotKnownAndThenOnlyWhatIsTooOld(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	require.Empty(t, oncall(s.Policy()), "as long as nothing is known nobody is in a group")
	require.Equal(t, []string{"ana"}, oncall(fresh(t, s, []string{"U0ANA"}, live)))
	require.Equal(t, 1, w.called("usergroups.list"))
	require.Equal(t, 1, w.called("users.info"))

	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{"U0BO"} })
	require.Equal(t, []string{"ana"}, oncall(fresh(t, s, []string{"U0ANA"}, live)), "it is fresh enough")
	require.Equal(t, 1, w.called("usergroups.list"))
	w.age()
	require.Equal(t, []string{"ana"}, oncall(s.Policy()), "for showing it is good enough")
	require.Equal(t, []string{"bo"}, oncall(fresh(t, s, []string{"U0ANA"}, live)))
	require.Equal(t, 2, w.called("users.info"))
	require.Equal(t, []string{"bo"}, oncall(s.Policy()))
	require.Equal(t, w.config.Load().Digest, s.Policy().Digest)
}

func TestFreshTakesWhatAnotherProcessHasRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	fresh(t, w.source(), []string{"U0ANA"}, live)
	other := w.source()
	require.Equal(t, []string{"ana"}, oncall(fresh(t, other, []string{"U0ANA"}, live)))
	require.Equal(t, 1, w.called("usergroups.list"))
	require.Equal(t, 1, w.called("users.info"))
	w.age()
	fresh(t, w.source(), []string{"U0ANA"}, live)
	require.Equal(t, 2, w.called("usergroups.list"), "by the database's clock it is too old")
	later := w.source()
	require.NoError(t, later.Load(t.Context()))
	require.Equal(t, []string{"ana"}, oncall(later.Policy()), "a start is warm")
}

func TestManyWhoAskAtOnceShareOneQuestion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	w.emu.AddFault(emulator.Fault{Method: "usergroups.list", Kind: emulator.Slow, DelayMS: 500})
	w.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.Slow, DelayMS: 500})
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range 50 {
		all.Go(func() {
			<-begin
			if _, err := s.Fresh(t.Context(), []string{"U0ANA"}, live); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	all.Wait()
	require.Equal(t, 1, w.called("usergroups.list"))
	require.Equal(t, 1, w.called("users.info"))
}

func TestNothingIsFreshWhenSlackCannotBeAsked(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]emulator.Fault{
		"limited": {Kind: emulator.RateLimited, RetryAfter: 30}, "away": {Kind: emulator.Drop}, "silent no": {Kind: emulator.SilentFailure},
		"HTML": {Kind: emulator.HTML}, "trouble": {Kind: emulator.ServerError}, "revoked": {Kind: emulator.ErrorReply, Error: "token_revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			s := w.source()
			fresh(t, s, []string{"U0ANA"}, live)
			w.age()
			for _, method := range []string{"usergroups.list", "users.info"} {
				f.Method = method
				w.emu.AddFault(f)
			}
			_, err := s.Fresh(t.Context(), []string{"U0ANA"}, nobody)
			require.ErrorIs(t, err, directory.ErrStale)
			_, err = s.Fresh(t.Context(), nobody, live)
			require.ErrorIs(t, err, directory.ErrStale)
			require.Equal(t, []string{"ana"}, oncall(fresh(t, s, []string{"U0ANA"}, live)), "and when it can be asked again, all is well")
		})
	}
	t.Run("it takes too long", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		s := w.source(func(c *directory.Config) { c.ClickBudget = 50 * time.Millisecond })
		w.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.Hang})
		t.Cleanup(w.emu.ReleaseHangs)
		_, err := s.Fresh(t.Context(), []string{"U0ANA"}, nobody)
		require.ErrorIs(t, err, directory.ErrStale)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("there is no Slack", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		s := w.source(func(c *directory.Config) { c.Client = nil })
		_, err := s.Fresh(t.Context(), nobody, live)
		require.ErrorIs(t, err, directory.ErrStale)
		s.Run(t.Context()) // returns at once
	})
	t.Run("too much is asked", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		_, err := w.source().Fresh(t.Context(), make([]string, 101), nobody)
		require.ErrorIs(t, err, directory.ErrStale)
	})
}

func TestWhoMayNotActCountsAsNobody(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*emulator.User){
		"deactivated": func(u *emulator.User) { u.Deleted = true }, "a guest": func(u *emulator.User) { u.IsRestricted = true },
		"single-channel guest": func(u *emulator.User) { u.IsUltraRestricted = true }, "a bot": func(u *emulator.User) { u.IsBot = true },
		"a stranger": func(u *emulator.User) { u.IsStranger = true }, "invited": func(u *emulator.User) { u.IsInvited = true },
		"of another workspace": func(u *emulator.User) { u.TeamID = "T0OTHER" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			s := w.source()
			require.Empty(t, fresh(t, s, []string{"U0ANA"}, live).Directory().Inactive)
			w.emu.UpdateUser("U0ANA", edit)
			w.age()
			dir := fresh(t, s, []string{"U0ANA"}, live).Directory()
			require.Contains(t, dir.Inactive, "ana")
			require.Empty(t, dir.Members([]string{"oncall"}))
			u, ok := s.User("U0ANA")
			require.True(t, ok)
			require.NotEmpty(t, s.Policy().SlackRefusal(u))
		})
	}
	w := setup(t)
	s := w.source()
	fresh(t, s, []string{"U0NOBODY"}, nobody)
	u, ok := s.User("U0NOBODY")
	require.True(t, ok)
	require.NotEmpty(t, s.Policy().SlackRefusal(u), "whom Slack does not know may not act either")
}

func TestAGroupThatIsGoneOrDisabledHasNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	require.Equal(t, []string{"ana"}, oncall(fresh(t, s, nobody, live)))
	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Disabled = true })
	w.age()
	require.Empty(t, oncall(fresh(t, s, nobody, live)))

	w = setup(t, func(c *emulator.Config) { c.Workspace.UserGroups = nil })
	require.Empty(t, oncall(fresh(t, w.source(), nobody, live)))
}

func TestAnOrganisationsTokenAsksWorkspaceByWorkspace(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *emulator.Config) { c.EnterpriseID, c.OrgInstall = "E0GRID", true })
	require.Equal(t, []string{"ana"}, oncall(fresh(t, w.source(), nobody, live)))
}

// ticket is one under a rule, decided on by some.
func (w *world) ticket(s *directory.Source, method string, decisions ...approvals.Decision) approvals.Ticket {
	w.t.Helper()
	config := s.Policy()
	caller, ok := config.Caller("bot")
	require.True(w.t, ok)
	call := approvals.Call{Upstream: "billing", Method: method, Path: "/x"}
	return approvals.Ticket{Caller: "bot", Call: call, Plan: config.Plan(caller, "", call, w.clock.now()), Decisions: decisions}
}

func TestFreshForAsksOfWhatTheApprovalRestsOn(t *testing.T) {
	t.Parallel()
	bySlack := approvals.Decision{Person: "ana", Via: "slack", Ref: "T0EMULATOR/U0ANA"}
	for name, c := range map[string]struct {
		method        string
		decisions     []approvals.Decision
		groups, users int
	}{
		"nothing":                  {"POST", nil, 0, 0},
		"somebody, not in Slack":   {"POST", []approvals.Decision{{Person: "ana", Via: "api"}}, 0, 0},
		"somebody in Slack":        {"POST", []approvals.Decision{bySlack, {Person: "bo", Via: "slack", Ref: "T0EMULATOR/U0BO"}}, 0, 2},
		"a group":                  {"DELETE", nil, 1, 0},
		"a group and somebody":     {"DELETE", []approvals.Decision{bySlack}, 1, 1},
		"a further account of one": {"POST", []approvals.Decision{{Person: "ana", Via: "slack", Ref: "T0EMULATOR/U0FAY"}}, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			s := w.source()
			_, err := s.FreshFor(t.Context(), w.ticket(s, c.method, c.decisions...))
			require.NoError(t, err)
			require.Equal(t, c.groups, w.called("usergroups.list"))
			require.Equal(t, c.users, w.called("users.info"))
			if c.groups+c.users == 0 {
				return
			}
			w.emu.SetOutage(true)
			_, err = s.FreshFor(t.Context(), w.ticket(s, c.method, c.decisions...))
			require.NoError(t, err, "it is fresh")
			w.age()
			_, err = s.FreshFor(t.Context(), w.ticket(s, c.method, c.decisions...))
			require.ErrorIs(t, err, directory.ErrStale)
		})
	}
}

func TestNothingIsFreshWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	w.store.Close()
	w.pool.Close()
	_, err := s.Fresh(t.Context(), nobody, live)
	require.ErrorIs(t, err, directory.ErrStale)
	require.False(t, errors.Is(err, context.DeadlineExceeded))
}
