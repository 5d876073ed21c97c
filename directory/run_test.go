package directory_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/directory"
	"countersign/slack"
	"countersign/slack/emulator"
)

// eager reads again much sooner than it does in earnest.
func eager(c *directory.Config) {
	c.GroupsEvery, c.UsersEvery = 100*time.Millisecond, 300*time.Millisecond
}

func TestOneProcessReadsForAll(t *testing.T) {
	t.Parallel()
	w := setup(t)
	rarely := func(c *directory.Config) { c.GroupsEvery, c.UsersEvery = time.Hour, time.Hour }
	sources := []*directory.Source{w.source(rarely), w.source(rarely), w.source(rarely)}
	for _, s := range sources {
		w.run(s)
	}
	for _, s := range sources {
		w.until("everybody knows", func() bool {
			_, ana := s.User("U0ANA")
			_, dora := s.User("U0DORA")
			return ana && dora && slices.Equal(oncall(s.Policy()), []string{"ana"})
		})
	}
	require.Equal(t, 1, w.called("usergroups.list"), "it is not due again for a while")
	require.Equal(t, 4, w.called("users.info"), "each once")
}

func TestTheNextProcessGoesOnWhereOneStops(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first, second := w.source(eager), w.source(eager)
	stop := w.run(first)
	w.until("it is read", func() bool { return len(oncall(first.Policy())) == 1 })
	w.run(second)
	stop()
	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{"U0BO", "U0CHEN"} })
	w.until("the other reads", func() bool { return slices.Equal(oncall(second.Policy()), []string{"bo", "chen"}) })
}

func TestChangesAreNoticedAndSaidOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var changes atomic.Int64
	s := w.source(eager, func(c *directory.Config) { c.Changed = func() { changes.Add(1) } })
	w.run(s)
	w.until("all is known", func() bool {
		_, dora := s.User("U0DORA")
		return dora && len(oncall(s.Policy())) == 1
	})
	before, same := changes.Load(), s.Policy()
	n := w.called("users.info")
	w.until("everybody is read again", func() bool { return w.called("users.info") >= n+8 })
	require.Equal(t, before, changes.Load(), "nothing says anything else")
	require.Same(t, same, s.Policy(), "so it is the same configuration")

	w.emu.UpdateUser("U0BO", func(u *emulator.User) { u.Deleted = true })
	w.until("bo is gone", func() bool { return s.Policy().Directory().Inactive["bo"] != "" })
	require.Equal(t, before+1, changes.Load())

	gone := s.Policy()
	fresh(t, s, []string{"U0GIL", "U0FAY"}, nobody)
	w.emu.UpdateUser("U0CHEN", func(u *emulator.User) { u.RealName = "Chen W." })
	w.until("the new name is read", func() bool {
		u, _ := s.User("U0CHEN")
		return u.Name == "Chen W."
	})
	require.Same(t, gone, s.Policy(), "strangers and names make no difference to who may decide")
	require.Equal(t, before+1, changes.Load())
}

func TestSlackIsNotAskedFasterThanItsLimitsAllow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source(eager)
	w.emu.AddFault(emulator.Fault{Method: "usergroups.list", Kind: emulator.RateLimited, RetryAfter: 3600})
	w.run(s)
	w.until("it is refused", func() bool { return w.called("usergroups.list") == 1 })
	n := w.called("users.info")
	pass(t, 300*time.Millisecond)
	require.Equal(t, 1, w.called("usergroups.list"))
	require.LessOrEqual(t, w.called("users.info"), n+1)
	w.clock.ahead.Add(int64(time.Hour))
	w.until("it is asked again", func() bool { return len(oncall(s.Policy())) == 1 })
}

// pass lets some time go by, in which something is not to happen.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func TestEventsMakeFactsTooOldAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	fresh(t, s, []string{"U0ANA"}, live)
	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{"U0BO"} })
	w.emu.UpdateUser("U0ANA", func(u *emulator.User) { u.Deleted = true })
	s.GroupChanged(t.Context(), "S0ONCALL")
	s.UserChanged(t.Context(), "U0ANA")
	s.UserChanged(t.Context(), "U0CHEN") // of whom nothing is known
	s.GroupChanged(t.Context(), "S0OTHER")
	w.emu.SetOutage(true)
	_, err := s.Fresh(t.Context(), nobody, live)
	require.ErrorIs(t, err, directory.ErrStale, "though it was read a moment ago")
	_, err = s.Fresh(t.Context(), []string{"U0ANA"}, nobody)
	require.ErrorIs(t, err, directory.ErrStale)
	w.emu.SetOutage(false)
	c := fresh(t, s, []string{"U0ANA"}, live)
	require.Equal(t, []string{"bo"}, oncall(c))
	require.Contains(t, c.Directory().Inactive, "ana")
}

func TestEventsAreFollowedByALook(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s, other := w.source(), w.source()
	w.run(s)
	w.run(other)
	w.until("all is known", func() bool {
		_, ana := s.User("U0ANA")
		_, dora := s.User("U0DORA")
		return ana && dora && len(oncall(s.Policy())) == 1 && len(oncall(other.Policy())) == 1
	})
	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{"U0BO"} })
	w.emu.UpdateUser("U0DORA", func(u *emulator.User) { u.Deleted = true })
	s.GroupChanged(t.Context(), "S0ONCALL")
	s.UserChanged(t.Context(), "U0DORA")
	for _, each := range []*directory.Source{s, other} {
		w.until("it is known everywhere", func() bool {
			return slices.Equal(oncall(each.Policy()), []string{"bo"}) && each.Policy().Directory().Inactive["dora"] != ""
		})
	}
}

func TestAnAnswerFromBeforeAChangeIsNotFresh(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	w.emu.AddFault(emulator.Fault{Method: "usergroups.list", Kind: emulator.Hang})
	early := make(chan error, 1)
	go func() {
		_, err := s.Fresh(t.Context(), nobody, live)
		early <- err
	}()
	w.until("it is asked", func() bool { return w.called("usergroups.list") == 1 })
	s.GroupChanged(t.Context(), "S0ONCALL")
	w.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{"U0BO"} })
	require.Equal(t, []string{"bo"}, oncall(fresh(t, s, nobody, live)), "another question was asked")
	require.Equal(t, 2, w.called("usergroups.list"))
	w.emu.ReleaseHangs()
	t.Log(<-early) // whatever it says, it comes too late
	require.Equal(t, []string{"bo"}, oncall(s.Policy()))
}

func TestAnotherConfigurationIsReadForAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.source()
	w.run(s)
	w.until("all is known", func() bool { return len(oncall(s.Policy())) == 1 })
	w.config.Store(parse(t, text("", "  - {name: fay, slack: U0FAY}")))
	w.until("fay is of them", func() bool { return slices.Equal(oncall(s.Policy()), []string{"ana", "fay"}) })
	w.until("fay is read", func() bool {
		_, ok := s.User("U0FAY")
		return ok
	})
}

func TestPeopleAreFoundByTheirAddressWhereThatCounts(t *testing.T) {
	t.Parallel()
	const people = "  - {name: fay, email: fay@example.com}\n  - {name: gil, email: gil@example.com}\n  - {name: hal, email: hal@elsewhere.example}"
	w := setup(t)
	w.config.Store(parse(t, text(", match_email: true, email_domains: [example.com]", people)))
	s := w.source()
	w.run(s)
	w.until("both are known", func() bool {
		dir := s.Policy().Directory()
		return dir.People["fay"].Slack == "U0FAY" && dir.People["gil"].Slack == "U0GIL"
	})
	require.Equal(t, []string{"ana", "fay"}, oncall(s.Policy()))
	require.LessOrEqual(t, w.called("users.lookupByEmail"), 2, "nobody is looked for in vain again and again")

	w = setup(t)
	w.config.Store(parse(t, text("", people)))
	s = w.source()
	w.run(s)
	w.until("all is known", func() bool {
		_, dora := s.User("U0DORA")
		return dora && len(oncall(s.Policy())) == 1
	})
	require.Zero(t, w.called("users.lookupByEmail"))
	require.Empty(t, s.Policy().Directory().People["fay"].Slack)
}

func TestChannelIsAskedAboutOnceInAWhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s, other := w.source(), w.source()
	for _, name := range []string{"#approvals", "C0APPR"} {
		for _, each := range []*directory.Source{s, s, other} {
			got, err := each.Channel(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, "C0APPR", got.ID)
			require.False(t, got.ExternallyShared)
		}
	}
	require.Equal(t, 1, w.called("conversations.list"))
	require.Equal(t, 1, w.called("conversations.info"))

	w.emu.UpdateChannel("C0APPR", func(c *emulator.Channel) { c.ExtShared = true })
	require.NoError(t, other.ChannelChanged(t.Context(), "C0APPR"))
	for _, name := range []string{"#approvals", "C0APPR"} {
		got, err := other.Channel(t.Context(), name)
		require.NoError(t, err)
		require.True(t, got.ExternallyShared, "who heard of it knows at once")
		w.clock.ahead.Add(int64(31 * time.Second))
		got, err = s.Channel(t.Context(), name)
		require.NoError(t, err)
		require.True(t, got.ExternallyShared, "and everybody else soon")
	}
	for _, name := range []string{"#nowhere", "C0NOWHERE"} {
		for range 2 {
			_, err := s.Channel(t.Context(), name)
			require.ErrorIs(t, err, directory.ErrNoChannel)
			var said *slack.Error
			require.ErrorAs(t, err, &said)
			require.Equal(t, slack.Permanent, said.Class)
		}
	}
	require.Equal(t, 3, w.called("conversations.list"))
	w.emu.SetOutage(true)
	_, err := s.Channel(t.Context(), "#out")
	require.Error(t, err)
	require.NotErrorIs(t, err, directory.ErrNoChannel)
}

func TestFactsThatNobodyHasAskedForInAMonthAreDropped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	fresh(t, w.source(), []string{"U0GIL"}, live)
	_, err := w.pool.Exec(t.Context(), `UPDATE slack_users SET read_at = read_at - interval '31 days'`)
	require.NoError(t, err)
	w.run(w.source())
	w.until("it is dropped", func() bool {
		rows, err := w.store.SlackFacts(t.Context(), db.SlackUsers, []string{"U0GIL"})
		require.NoError(t, err)
		return len(rows) == 0
	})
}
