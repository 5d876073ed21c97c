package main

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
	"countersign/envelope"
	"countersign/slack/emulator"
)

// clinic is a configuration with a Slack to examine.
type clinic struct {
	emu  *emulator.Server
	url  string // of the emulator
	env  map[string]string
	text string
}

const doctorConfig = `
server: {listen: "127.0.0.1:1", public_url: "https://countersign.example.com"}
encryption: {keyset: env:KEYSET}
slack:
  bot_token: env:SLACK_BOT_TOKEN
  signing_secrets: [env:SLACK_SIGNING_SECRET]
  api_url: "%URL%/api/"
  team_ids: [T0EMULATOR]
  app_id: A0EMULATOR
  channel: "#billing-approvals"
callers:
  - {name: bot, key_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, owners: [ana], upstreams: [billing]}
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO}
  - {name: chen, slack: U02CHEN}
groups:
  - {name: security, slack_usergroup: S0SECURITY}
operators: [ana]
upstreams:
  - {name: billing, base_url: "http://127.0.0.1:9/v1"}
rules:
  - name: refund
    match: {upstream: billing}
    stages: [{name: peer, need: [{from: [security], approvals: 2}], notify: {channel: C03SECURITY}}]
`

func newClinic(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{emu: emulator.New(emulator.Config{Workspace: emulator.Demo(), BotToken: "xoxb-test"}), env: servingEnv(""), text: doctorConfig}
	workspace := httptest.NewServer(c.emu)
	t.Cleanup(workspace.Close)
	t.Cleanup(c.emu.Close)
	c.url = workspace.URL
	delete(c.env, "DATABASE_URL")
	return c
}

// replace changes the configuration.
func (c *clinic) replace(t *testing.T, before, after string) {
	t.Helper()
	require.Contains(t, c.text, before)
	c.text = strings.ReplaceAll(c.text, before, after)
}

// examine runs the doctor and returns what was found.
func (c *clinic) examine(t *testing.T, args ...string) (findings []finding, r *running) {
	t.Helper()
	file := write(t, "countersign.yaml", strings.ReplaceAll(c.text, "%URL%", c.url))
	r = command(t, c.env, append([]string{"doctor", "--json", "--config", file}, args...)...)
	for line := range strings.Lines(r.stdout.String()) {
		var f finding
		require.NoError(t, json.Unmarshal([]byte(line), &f), line)
		findings = append(findings, f)
	}
	return findings, r
}

// requireFound asserts that exactly one finding beyond those that are ok says this, of that
// level, and what to do about it.
func requireFound(t *testing.T, findings []finding, level findingLevel, words ...string) {
	t.Helper()
	var found []finding
	for _, f := range findings {
		all := true
		for _, w := range words {
			all = all && strings.Contains(f.What+"; "+f.Do, w)
		}
		if all {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1, "findings with %q among %+v", words, findings)
	require.Equal(t, level, found[0].Level, found[0].What)
	require.Equal(t, level != levelOK, found[0].Do != "", "it says what to do: %+v", found[0])
}

func levels(findings []finding) map[findingLevel]int {
	out := map[findingLevel]int{}
	for _, f := range findings {
		out[f.Level]++
	}
	return out
}

func TestTheDoctorFindsKeysThatDoNotFit(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	store := dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{})
	require.NoError(t, store.CheckKeys(t.Context()), "the first start of a service")
	other, err := envelope.NewKeyset()
	require.NoError(t, err)
	for what, keyset := range map[string]string{"not the one that this database was written with": other, "no usable keys": "hunter2"} {
		c := newClinic(t)
		c.env["DATABASE_URL"], c.env["KEYSET"] = url, keyset
		findings, r := c.examine(t, "--only", "database")
		require.NotEqual(t, 0, r.code, what)
		requireFound(t, findings, levelFail, what)
		require.NotContains(t, r.stdout.String(), "hunter2")
	}
}

func TestTheDoctorFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.env["DATABASE_URL"] = dbtest.Database(t)
	findings, r := c.examine(t)
	require.Equal(t, 0, r.code, r.stderr)
	require.Zero(t, levels(findings)[levelFail])
	require.Equal(t, 1, levels(findings)[levelWarn], "the login of a test owns everything: %+v", findings)
	for _, words := range []string{
		"in order: rules 1", "public_url is https", "reachable, Postgres", "encrypted, under keys that fit", "has the privileges it needs", "the database's clock", "HTTP, with one signing secret",
		"workspace Acme (T0EMULATOR)", "all scopes", "without channels:history", "Slack's clock", "#billing-approvals (slack.channel) is there",
		"C03SECURITY (rule refund) is there", "3 people found", "group security (@security): 2 people in Slack, of whom 2 known here", "billing: 127.0.0.1 is found",
	} {
		requireFound(t, findings, levelOK, words)
	}
	requireFound(t, findings, levelWarn, "owns the tables")
	require.Contains(t, r.stderr.String(), "asking about people: 0 of 3", "progress")
	require.Empty(t, c.emu.Messages("C03SECURITY"), "nothing was posted")
}

func TestTheDoctorSaysItInLinesForPeople(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.emu.UpdateChannel("C03SECURITY", func(ch *emulator.Channel) { ch.Archived = true })
	file := write(t, "countersign.yaml", strings.ReplaceAll(c.text, "%URL%", c.url))
	r := command(t, c.env, "doctor", "--config", file, "--only", "slack")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout.String(), "fail  slack          C03SECURITY (rule refund) is archived; unarchive it, or name another\n")
	require.Contains(t, r.stderr.String(), "not everything is in order: 1 failure, 0 warnings")
	require.NotContains(t, r.stdout.String(), "upstreams")
	require.NotContains(t, r.stdout.String()+r.stderr.String(), "xoxb-test", "no secret")
}

func TestTheDoctorReadsTheConfigurationFirst(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	delete(c.env, "SLACK_BOT_TOKEN")
	findings, r := c.examine(t)
	require.Equal(t, exitFailed, r.code)
	requireFound(t, []finding{{findings[0].Level, "", findings[0].What, "x"}}, levelFail, "SLACK_BOT_TOKEN")
	c.text = "nonsense"
	_, r = c.examine(t)
	require.Equal(t, exitFailed, r.code)
	r = command(t, nil, "doctor")
	r.requireRefused(t, exitUsage, "--config")
	r = command(t, nil, "doctor", "--config", "x", "--only", "weather")
	r.requireRefused(t, exitUsage, "weather")
}

func TestTheDoctorMissesASlackAndAnAddress(t *testing.T) {
	t.Parallel()
	file := settings{local: true}.file(t)
	r := command(t, servingEnv(""), "doctor", "--config", file)
	require.Contains(t, r.stdout.String(), "there is no slack section")
	require.Contains(t, r.stdout.String(), "links work on this machine only")
	require.Contains(t, r.stdout.String(), "there is no DATABASE_URL")
}

// Each is produced in the emulated workspace, or in the configuration, and found.
func TestTheDoctorFindsWhatIsWrongInSlack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm  func(t *testing.T, c *clinic)
		level findingLevel
		words []string
	}{
		"token revoked":    {func(_ *testing.T, c *clinic) { c.emu.SetAuthError("token_revoked") }, levelFail, []string{"token_revoked", "install the app again"}},
		"token of nothing": {func(_ *testing.T, c *clinic) { c.env["SLACK_BOT_TOKEN"] = "xoxb-other" }, levelFail, []string{"invalid_auth", "Bot User OAuth Token"}},
		"no Slack there":   {func(_ *testing.T, c *clinic) { c.emu.SetOutage(true) }, levelFail, []string{"auth.test"}},
		"another workspace": {configured("[T0EMULATOR]", "[T0OTHER]"), levelFail, []string{
			"workspace Acme (T0EMULATOR), app user U0BOT, which is not in slack.team_ids", "add T0EMULATOR",
		}},
		"scope missing":  {func(_ *testing.T, c *clinic) { c.emu.SetScopes(without("im:write")) }, levelFail, []string{"the scope im:write is missing", "manifest"}},
		"comfort scope":  {func(_ *testing.T, c *clinic) { c.emu.SetScopes(without("commands")) }, levelWarn, []string{"the scope commands is missing, for: /approvals"}},
		"groups unread":  {func(_ *testing.T, c *clinic) { c.emu.SetScopes(without("usergroups:read")) }, levelFail, []string{"user groups cannot be listed", "add the scope"}},
		"people unread":  {func(_ *testing.T, c *clinic) { c.emu.SetScopes(without("users:read")) }, levelFail, []string{"bo (U02BO)", "missing_scope"}},
		"clock off":      {func(_ *testing.T, c *clinic) { c.emu.Advance(45 * time.Second) }, levelWarn, []string{"Slack's clock", "NTP"}},
		"clock far off":  {func(_ *testing.T, c *clinic) { c.emu.Advance(10 * time.Minute) }, levelFail, []string{"Slack's clock", "five minutes"}},
		"no channel":     {configured("#billing-approvals", "#nowhere"), levelFail, []string{"#nowhere (slack.channel) is not there", "/invite"}},
		"no channel id":  {configured("C03SECURITY", "C0NOWHERE"), levelFail, []string{"C0NOWHERE (rule refund) is not there"}},
		"archived":       {channel(func(ch *emulator.Channel) { ch.Archived = true }), levelFail, []string{"C03SECURITY", "is archived"}},
		"not invited":    {channel(func(ch *emulator.Channel) { ch.Private, ch.Members = false, []string{"U02BO"} }), levelFail, []string{"C03SECURITY", "the app is not in it", "/invite"}},
		"shared":         {channel(func(ch *emulator.Channel) { ch.ExtShared = true }), levelFail, []string{"C03SECURITY", "another organisation", "allow_external"}},
		"shared, wanted": {sharedOnPurpose, levelWarn, []string{"C03SECURITY", "its people read every card"}},
		"no group":       {configured("S0SECURITY", "S0NOBODY"), levelFail, []string{"user group S0NOBODY (group security) is not there"}},
		"group disabled": {group(func(g *emulator.UserGroup) { g.Disabled = true }), levelFail, []string{"@security, is disabled"}},
		"group empty":    {group(func(g *emulator.UserGroup) { g.Members = nil }), levelFail, []string{"@security, is empty"}},
		"group too small": {group(func(g *emulator.UserGroup) { g.Members = []string{"U02BO"} }), levelFail, []string{
			"rule refund, stage peer asks for 2 approvals from security, where 1 can give one",
		}},
		"strangers in the group": {group(func(g *emulator.UserGroup) { g.Members = append(g.Members, "U02DEV") }), levelWarn, []string{
			"3 people in Slack, of whom 2 known here", "member id",
		}},
		"nobody of that id": {configured("U02ANA", "U02ANNA"), levelFail, []string{"ana (U02ANNA) is not there", "Copy member ID"}},
		"a guest":           {person("U02ANA", func(u *emulator.User) { u.IsRestricted = true }), levelFail, []string{"ana (U02ANA): this Slack account is a guest"}},
		"a bot":             {person("U02ANA", func(u *emulator.User) { u.IsBot = true }), levelFail, []string{"ana (U02ANA): this Slack account is a bot"}},
		"a stranger":        {configured("U02ANA", "U02EXT"), levelFail, []string{"ana (U02EXT): this Slack account is of another organisation"}},
		"who has left":      {person("U02ANA", func(u *emulator.User) { u.Deleted = true }), levelWarn, []string{"ana (U02ANA): this Slack account is deactivated"}},
		"guest in quorum": {person("U02CHEN", func(u *emulator.User) { u.IsRestricted = true }), levelFail, []string{
			"rule refund, stage peer asks for 2 approvals from security, where 1 can give one",
		}},
		"no public address": {configured("https://countersign.example.com", "http://127.0.0.1:8080"), levelWarn, []string{"links work on this machine only"}},
		"two secrets":       {configured("[env:SLACK_SIGNING_SECRET]", "[env:SLACK_SIGNING_SECRET, env:SLACK_BOT_TOKEN]"), levelOK, []string{"2 signing secrets", "remove the older one"}},
		"no such upstream":  {configured("http://127.0.0.1:9/v1", "https://billing.invalid/v1"), levelFail, []string{"billing: billing.invalid cannot be found", "base_url"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t)
			test.harm(t, c)
			findings, r := c.examine(t, "--only", "slack", "--only", "upstreams", "--only", "configuration")
			requireFound(t, findings, test.level, test.words...)
			require.Equal(t, levels(findings)[levelFail] > 0, r.code == exitFailed, "exit code %d", r.code)
			require.NotContains(t, r.stdout.String()+r.stderr.String(), c.env["SLACK_BOT_TOKEN"], "no secret")
		})
	}
}

func without(scope string) (out []string) {
	for _, s := range emulator.DefaultScopes() {
		if s != scope {
			out = append(out, s)
		}
	}
	return out
}

func configured(before, after string) func(*testing.T, *clinic) {
	return func(t *testing.T, c *clinic) { t.Helper(); c.replace(t, before, after) }
}

func channel(edit func(*emulator.Channel)) func(*testing.T, *clinic) {
	return func(_ *testing.T, c *clinic) { c.emu.UpdateChannel("C03SECURITY", edit) }
}

func sharedOnPurpose(t *testing.T, c *clinic) {
	t.Helper()
	c.emu.UpdateChannel("C03SECURITY", func(ch *emulator.Channel) { ch.ExtShared = true })
	c.replace(t, "  app_id:", "  allow_external: true\n  app_id:")
}

func group(edit func(*emulator.UserGroup)) func(*testing.T, *clinic) {
	return func(_ *testing.T, c *clinic) { c.emu.UpdateUserGroup("S0SECURITY", edit) }
}

func person(id string, edit func(*emulator.User)) func(*testing.T, *clinic) {
	return func(_ *testing.T, c *clinic) { c.emu.UpdateUser(id, edit) }
}

func TestTheDoctorLooksAtAddressesThatPeopleAreKnownBy(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.emu.SetScopes(append(emulator.DefaultScopes(), "users:read.email"))
	c.replace(t, "{name: ana, slack: U02ANA}", "{name: ana, email: ana@example.com}")
	c.replace(t, "  app_id:", "  match_email: true\n  email_domains: [example.com]\n  app_id:")
	findings, r := c.examine(t, "--only", "slack")
	require.Equal(t, 0, r.code, "%+v", findings)
	requireFound(t, findings, levelOK, "3 people found")
	c.emu.UpdateUser("U02ANA", func(u *emulator.User) { u.EmailUnconfirmed = true })
	findings, _ = c.examine(t, "--only", "slack")
	requireFound(t, findings, levelFail, "ana (ana@example.com) is not confirmed")
	c.emu.UpdateUser("U02ANA", func(u *emulator.User) { u.Email = "other@example.com" })
	findings, _ = c.examine(t, "--only", "slack")
	requireFound(t, findings, levelWarn, "ana (ana@example.com): nobody in Slack")
	c.emu.SetScopes(emulator.DefaultScopes())
	findings, _ = c.examine(t, "--only", "slack")
	requireFound(t, findings, levelFail, "the scope users:read.email is missing")
}

func TestTheDoctorLooksAtSocketMode(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.replace(t, "  signing_secrets: [env:SLACK_SIGNING_SECRET]\n", "  mode: socket\n  app_token: env:SLACK_APP_TOKEN\n")
	c.env["SLACK_APP_TOKEN"] = "xapp-emulator"
	findings, r := c.examine(t, "--only", "slack")
	require.Equal(t, 0, r.code, "%+v", findings)
	requireFound(t, findings, levelOK, "Socket Mode", "no connection was opened")
	require.Zero(t, c.emu.Sockets())
}

func TestTheDoctorUsesUpNoRotatingToken(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.emu.SetAuthError("token_expired")
	findings, _ := c.examine(t, "--only", "slack")
	requireFound(t, findings, levelFail, "token_expired", "refresh_token")
	c.replace(t, "  app_id:", "  client_id: \"1.2\"\n  client_secret: env:CLIENT_SECRET\n  refresh_token: env:REFRESH_TOKEN\n  app_id:")
	c.env["CLIENT_SECRET"], c.env["REFRESH_TOKEN"] = "client-secret", "xoxe-1-refresh"
	findings, r := c.examine(t, "--only", "slack")
	requireFound(t, findings, levelWarn, "has expired, as tokens do that rotate")
	require.Equal(t, 0, r.code)
}

func TestTheDoctorWaitsAsLongAsSlackAsks(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.RateLimited, RetryAfter: 1})
	findings, r := c.examine(t, "--only", "slack")
	require.Equal(t, 0, r.code, "%+v", findings)
	require.Contains(t, r.stderr.String(), "Slack takes no more users.info for 1s: waiting")
}

func TestTheDoctorFindsWhatIsWrongInTheDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url, sql string // sql is executed by the owner
		level    findingLevel
		words    []string
	}{
		"not there":    {"postgres://nobody@127.0.0.1:1/nothing?connect_timeout=2", "", levelFail, []string{"connect", "DATABASE_URL"}},
		"not migrated": {dbtest.Empty(t), "", levelFail, []string{"countersign migrate"}},
		"too old":      {dbtest.Database(t), `UPDATE schema_migrations SET version = 13`, levelFail, []string{"the schema is at 13", "migrate"}},
		"too new":      {dbtest.Database(t), `UPDATE schema_migrations SET version = 9999`, levelWarn, []string{"newer than"}},
		"half-way":     {dbtest.Database(t), `UPDATE schema_migrations SET dirty = true`, levelFail, []string{"half-way"}},
		"may not":      {dbtest.Database(t), `REVOKE INSERT ON slack_outbox FROM countersign_app`, levelFail, []string{"may not INSERT slack_outbox", "GRANT INSERT"}},
		"may too much": {dbtest.Database(t), `GRANT UPDATE ON audit_events TO countersign_app`, levelFail, []string{"may UPDATE audit_events", "REVOKE UPDATE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.sql != "" {
				conn, err := pgx.Connect(t.Context(), test.url)
				require.NoError(t, err)
				_, err = conn.Exec(t.Context(), test.sql)
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
			}
			c := newClinic(t)
			findings, r := c.examine(t, "--only", "database", "--database-url", test.url)
			requireFound(t, findings, test.level, test.words...)
			require.Equal(t, levels(findings)[levelFail] > 0, r.code == exitFailed, "exit code %d", r.code)
		})
	}
}

func TestClocksThatDifferAreFound(t *testing.T) {
	t.Parallel()
	for by, want := range map[time.Duration]findingLevel{
		0: levelOK, 30 * time.Second: levelOK, -31 * time.Second: levelWarn, 2 * time.Minute: levelWarn, 121 * time.Second: levelFail, -time.Hour: levelFail,
	} {
		var out strings.Builder
		d := &doctor{sheet: sheet{out: &out, json: true}}
		d.skewed("the database's", by, "harm")
		require.Contains(t, out.String(), `"level":"`+string(want)+`"`, by.String())
	}
}
