package policy_test

import (
	"fmt"
	"strings"
)

func callers(text string) string {
	return "callers:\n  - {name: bot, key_sha256: " + keyHash + ", " + text + "}\n"
}

func callbacks(text string) string { return callers("upstreams: [billing], callbacks: {" + text + "}") }

func slack(text string) string {
	return "slack: {bot_token: env:SLACK_BOT_TOKEN, signing_secrets: [env:SLACK_SIGNING_SECRET], team_ids: [T0], " + text + "}\n"
}

func upstream(text string) string {
	return "upstreams:\n  - {name: billing, base_url: \"https://billing.internal/v1\", " + text + "}\n"
}

func baseURL(text string) string { return "upstreams:\n  - {name: billing, base_url: " + text + "}\n" }

func rule(text string) string {
	return "rules:\n  - {name: r, match: {upstream: billing}, " + text + "}\n"
}

func match(text string) string {
	return "rules:\n  - {name: r, action: allow, match: {" + text + "}}\n"
}

func stage(text string) string { return rule("stages: [{name: one, " + text + "}]") }

func mistakesOfForm() []mistake {
	return []mistake{
		{promise: "unknown section", section: "server", text: "➤sever: {}\n", message: `unknown field "sever" in the configuration (did you mean "server"?)`},
		{promise: "unknown field", section: "server", text: "server: {➤listn: a}\n", message: `unknown field "listn" in server (did you mean "listen"?)`},
		{promise: "field with no likeness", section: "server", text: "server: {➤colour: red}\n", message: `unknown field "colour" in server`},
		{promise: "duplicate field", section: "server", text: "server:\n  drain: 5s\n  ➤drain: 5s\n", message: `duplicate field "drain", already set on line 2`},
		{promise: "duplicate section", section: "server", text: "server: {drain: 5s}\n➤server: {drain: 5s}\n", message: `duplicate field "server", already set on line 1`},
		{promise: "list for a mapping", section: "server", text: "server: ➤[a]\n", message: `server must be a mapping of fields, not a list`},
		{promise: "text for a list", section: "groups", text: "groups: ➤security\n", also: askBo, message: `groups must be a list, not text`},
		{promise: "number for a text", section: "slack", text: slack("channel: C0X, app_id: ➤17"), message: `app_id must be text, not a number (put it in quotes)`},
		{promise: "mapping for a text", section: "slack", text: slack("channel: C0X, app_id: ➤{a: b}"), message: `app_id must be text, not a mapping`},
		{promise: "text for true or false", section: "upstreams", text: upstream("idempotent: ➤yes"), message: `idempotent must be true or false, not text`},
		{promise: "empty field", section: "server", text: "server: {➤drain: }\n", message: `the field "drain" is empty (remove the field or give it a value)`},
		{promise: "comment for a channel", section: "slack", text: slack("app_id: A0, ➤channel: #approvals\n"), also: askBoIn, message: `the field "channel" is empty (remove the field or give it a value)`},
		{promise: "empty list", section: "groups", text: "groups: ➤[]\n", also: askBo, message: `groups is an empty list (remove the field or give it a value)`},
		{promise: "empty item", section: "groups", text: "groups:\n  - {name: security, members: ➤[ana, bo, null, chen]}\n", message: `members has an empty item`},
		{promise: "item twice", section: "callers", text: callers("upstreams: [billing, ➤billing]"), message: `upstreams has "billing" twice`},
		{promise: "spaces around a text", section: "server", text: "server: {data_dir: ➤' x'}\n", message: `data_dir has spaces around it, a line break or a control character`},
		{promise: "empty text", section: "server", text: "server: {data_dir: ➤''}\n", message: `data_dir is empty`},
		{promise: "second document", section: "rules", text: sectionRules + "---\n➤server: {}\n", message: `a file holds one document only (put it into a file of its own)`},
		{promise: "field name that is no word", section: "server", text: "server: {➤7: a}\n", message: `a field name must be a plain word`},
		{promise: "anchor", section: "server", text: "server: {drain: ➤&d 5s}\n", message: `anchors (&) are not supported (write it out)`},
		{promise: "tag", section: "server", text: "server: {data_dir: ➤!!str x}\n", message: `tags (!) are not supported (write it out)`},
		{promise: "user group without Slack", section: "groups", text: "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - {name: oncall, slack_usergroup: ➤S0}\n", message: `who is in a Slack user group cannot be asked without Slack (add the section "slack")`},
		{promise: "handle of a user group", section: "groups", text: "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - {name: oncall, slack_usergroup: ➤\"@oncall\"}\n", message: `slack_usergroup must be the id of a Slack user group, such as S0123ABCD, not its handle`},
		{promise: "user group with members", section: "groups", text: "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - ➤{name: oncall, members: [bo], slack_usergroup: S0}\n", also: map[string]string{"slack": slack("app_id: A0")}, message: `a group has members or slack_usergroup, not both (remove one of them)`},
		{promise: "no callers", section: "callers", text: "➤", message: `the section "callers" is missing: nobody could submit a call`},
	}
}

// askBo does without groups, askBoIn names its channel too.
var (
	askBo        = map[string]string{"rules": stage("need: [{from: [bo], approvals: 1}]")}
	askBoIn      = map[string]string{"rules": stage("need: [{from: [bo], approvals: 1}], notify: {channel: C0X}")}
	sectionRules = stage("need: [{from: [bo], approvals: 1}]")
)

//nolint:gosec // made up
func mistakesOfService() []mistake {
	return []mistake{
		{promise: "address without port", section: "server", text: "server: {listen: ➤localhost, public_url: \"https://a.example.com\"}\n", message: `listen is not an address (write host:port, such as 127.0.0.1:8080)`},
		{promise: "address with a bad port", section: "server", text: "server: {listen: ➤\"127.0.0.1:99999\"}\n", message: `listen is not an address (write host:port, such as 127.0.0.1:8080)`},
		{promise: "public address missing", section: "server", text: "server: {listen: ➤\":8080\"}\n", message: `public_url is needed when listen is not a loopback address (set server.public_url)`},
		{promise: "public address in plain http", section: "server", text: "server: {public_url: ➤\"http://a.example.com\"}\n", message: `public_url must be https unless it is this machine`},
		{promise: "drain too long", section: "server", text: "server: {drain: ➤1h}\n", message: `drain must be between 1s and 10m`},
		{promise: "duration without unit", section: "server", text: "server: {drain: ➤30}\n", message: `drain needs a unit (write 90s, 15m, 24h or 7d)`},
		{promise: "no duration", section: "server", text: "server: {drain: ➤soon}\n", message: `drain is not a duration (write 90s, 15m, 24h or 7d)`},
		{promise: "negative duration", section: "server", text: "server: {drain: ➤-5s}\n", message: `drain is not a duration (write 90s, 15m, 24h or 7d)`},
		{promise: "no size", section: "server", text: "server: {max_body: ➤1MB}\n", message: `max_body is not a size in bytes (write 65536, 512KiB or 1MiB)`},
		{promise: "size too large", section: "server", text: "server: {max_body: ➤17MiB}\n", message: `max_body must be between 1KiB and 16MiB`},
		{promise: "list for a size", section: "server", text: "server: {max_body: ➤[1]}\n", message: `max_body must be a size in bytes, not a list`},
		{promise: "literal secret", section: "database", text: "database: {url: ➤\"postgres://u:p@db/x\"}\n", message: `a secret must not stand in the configuration itself (write env:NAME or file:PATH)`},
		{promise: "variable not set", section: "database", text: "database: {url: ➤env:UNSET}\n", message: `the environment variable of env:UNSET is not set or empty`},
		{promise: "variable without a name", section: "database", text: "database: {url: ➤\"env:a b\"}\n", message: `after env: the name of an environment variable is expected`},
		{promise: "file missing", section: "database", text: "database: {url: ➤file:testdata/missing}\n", message: `the file of file:testdata/missing cannot be read: no such file or directory`},
		{promise: "file that is a folder", section: "database", text: "database: {url: ➤file:testdata}\n", message: `the file of file:testdata cannot be read: not a regular file`},
		{promise: "file without a path", section: "database", text: "database: {url: ➤\"file:\"}\n", message: `after file: the path of a file is expected`},
		{promise: "no reference", section: "database", text: "database: {url: ➤{}}\n", message: `a secret must be a reference (env:NAME or file:PATH), not a mapping`},
		{promise: "three signing secrets", section: "slack", text: "slack: {bot_token: env:SLACK_BOT_TOKEN, team_ids: [T0], app_id: A0, channel: C0X, signing_secrets: ➤[env:SLACK_SIGNING_SECRET, env:BILLING_TOKEN, env:NOT_A_HASH]}\n", message: `signing_secrets has 3 items, at most 2 are allowed`},
		{promise: "signing secret twice", section: "slack", text: "slack: {bot_token: env:SLACK_BOT_TOKEN, team_ids: [T0], app_id: A0, channel: C0X, signing_secrets: [env:SLACK_SIGNING_SECRET, ➤env:SLACK_SIGNING_SECRET]}\n", message: `signing_secrets has env:SLACK_SIGNING_SECRET twice`},
		{promise: "app missing", section: "slack", text: "slack: ➤{bot_token: env:SLACK_BOT_TOKEN, team_ids: [T0], channel: C0X, signing_secrets: [env:SLACK_SIGNING_SECRET]}\n", message: `slack needs the field "app_id"`},
		{promise: "name of a team", section: "slack", text: "slack: {bot_token: env:SLACK_BOT_TOKEN, team_ids: [➤acme], app_id: A0, channel: C0X, signing_secrets: [env:SLACK_SIGNING_SECRET]}\n", message: `team_ids must hold ids of workspaces, such as T0123ABCD`},
		{promise: "channel in capitals", section: "slack", text: slack("app_id: A0, channel: ➤\"#Approvals\""), message: `a channel is "#name" in lower case, quoted, or an id such as C0123ABCD`},
		{promise: "Slack in plain http", section: "slack", text: slack("app_id: A0, channel: C0X, api_url: ➤\"http://slack.example.com/api\""), message: `api_url must be https unless it is this machine`},
		{promise: "nowhere to ask", section: "rules", text: rule("stages: [➤{name: one, need: [{from: [dee], approvals: 1}]}]"), also: map[string]string{"slack": slack("app_id: A0"), "people": people("{name: dee, email: dee@example.com}")}, message: `the stage has no channel to ask in, and nobody it asks has a Slack id (set notify.channel, or slack.channel for all)`},
		{promise: "sockets without their token", section: "slack", text: "slack: ➤{bot_token: env:SLACK_BOT_TOKEN, team_ids: [T0], app_id: A0, mode: socket}\n", message: `slack needs the field "app_token" with mode: socket`},
		{promise: "token of sockets over HTTP", section: "slack", text: slack("app_id: A0, app_token: ➤env:SLACK_APP_TOKEN"), message: `app_token is for mode: socket (remove it, or set mode: socket)`},
		{promise: "no signing secrets over HTTP", section: "slack", text: "slack: ➤{bot_token: env:SLACK_BOT_TOKEN, team_ids: [T0], app_id: A0}\n", message: `slack needs the field "signing_secrets"`},
		{promise: "another mode", section: "slack", text: slack("app_id: A0, mode: ➤sockets"), message: `mode must be http or socket (did you mean "socket"?)`},
		{promise: "half of a rotation", section: "slack", text: slack("app_id: A0, client_id: ➤\"1.2\", refresh_token: env:SLACK_REFRESH_TOKEN"), message: `client_id, client_secret and refresh_token renew a token together: all three, or none`},
		{promise: "addresses of any domain", section: "slack", text: slack("app_id: A0, match_email: ➤true"), message: `match_email needs email_domains: in which domains can nobody take another's address?`},
		{promise: "domains for nothing", section: "slack", text: slack("app_id: A0, email_domains: [➤example.com]"), message: `email_domains is for match_email (remove it, or set match_email: true)`},
		{promise: "a domain that is none", section: "slack", text: slack("app_id: A0, match_email: true, email_domains: [example.com, ➤\"@example.com\"]"), message: `email_domains must hold domains in lower case, such as example.com`},
		{promise: "a host with a port", section: "slack", text: slack("app_id: A0, response_hosts: [➤\"hooks.example.com:443\"]"), message: `response_hosts must hold host names in lower case, such as hooks.slack-gov.com`},
		{promise: "workspace for an organisation", section: "slack", text: slack("app_id: A0, enterprise_ids: [➤T0123ABCD]"), message: `enterprise_ids must hold ids of organisations, such as E0123ABCD`},
		{promise: "whom to tell what", section: "slack", text: slack("app_id: A0, tell_requesters: ➤all"), message: `tell_requesters must be outcomes, questions or none`},
		{promise: "a level that is none", section: "rules", text: rule("confirm: ➤pin, stages: [{name: one, need: [{from: [bo], approvals: 1}]}]"), message: `confirm must be none, dialog, modal or code`},
		{promise: "confirming what nobody is asked", section: "rules", text: rule("action: allow, confirm: ➤modal"), message: `confirm is for rules with stages`},
		{promise: "notify that says nothing", section: "rules", text: stage("need: [{from: [bo], approvals: 1}], notify: ➤{}"), message: `notify is empty (remove the field or give it a value)`},
		{promise: "fallback that is no channel", section: "rules", text: stage("need: [{from: [bo], approvals: 1}], notify: {fallback: ➤Approvals}"), message: `a channel is "#name" in lower case, quoted, or an id such as C0123ABCD`},
		{promise: "no network", section: "egress", text: "egress: {callbacks: {allow_prefixes: [➤10.0.0.1]}}\n", message: `this is not a network (write 10.1.0.0/16)`},
		{promise: "network with host bits", section: "egress", text: "egress: {callbacks: {allow_prefixes: [➤10.1.2.3/16]}}\n", message: `the network has bits set behind its length (write 10.1.0.0/16)`},
		{promise: "network that is everything", section: "egress", text: "egress: {callbacks: {allow_prefixes: [➤0.0.0.0/0]}}\n", message: `the network is too wide; at least /8 is required`},
		{promise: "port out of range", section: "egress", text: "egress: {callbacks: {allow_ports: [➤0]}}\n", message: `allow_ports must be between 1 and 65535`},
	}
}

func mistakesOfPeople() []mistake {
	two := func(a, b string) string { return "people:\n" + morePeople + "  - " + a + "\n  - " + b + "\n" }
	return []mistake{
		{promise: "person twice", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: ➤dee, slack: U0DEF}"), message: `the person "dee" is already defined (line 7)`},
		{promise: "person twice but for the case", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: ➤Dee, slack: U0DEF}"), message: `the person "Dee" differs only in case from "dee" (line 7)`},
		{promise: "Slack id twice", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: eli, slack: ➤U0DEE}"), message: `the Slack id "U0DEE" is already defined (line 7)`},
		{promise: "e-mail address twice", section: "people", text: two("{name: dee, email: dee@example.com}", "{name: eli, email: ➤dee@example.com}"), message: `the e-mail address "dee@example.com" is already defined (line 7)`},
		{promise: "Slack name for an id", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: eli, slack: ➤\"@eli\"}"), message: `slack must be a member id, such as U0123ABCD, not a name`},
		{promise: "no e-mail address", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: eli, email: ➤Eli <eli@example.com>}"), message: `email is not an e-mail address`},
		{promise: "person without identity", section: "people", text: two("{name: dee, slack: U0DEE}", "➤{name: eli}"), message: `a person needs slack, email, key_sha256, keys or login: nobody could tell who is deciding`},
		{promise: "person without name", section: "people", text: two("{name: dee, slack: U0DEE}", "➤{slack: U0ELI}"), message: `a person needs the field "name"`},
		{promise: "name with a colon", section: "people", text: two("{name: dee, slack: U0DEE}", "{name: ➤\"a:b\", slack: U0ELI}"), message: `a name is 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit`},
		{promise: "group twice", section: "groups", text: group("{name: ➤security, members: [ana]}"), message: `the group "security" is already defined (line 8)`},
		{promise: "group named as a person", section: "groups", text: group("{name: ➤bo, members: [ana]}"), message: `"bo" is both a person and a group (line 5)`},
		{promise: "group in a group", section: "groups", text: group("{name: all, members: [➤security]}"), message: `"security" is a group, not a person (members are people: a group cannot hold another)`},
		{promise: "unknown member", section: "groups", text: group("{name: all, members: [➤chem]}"), message: `unknown person "chem" (did you mean "chen"?)`},
		{promise: "empty group", section: "groups", text: group("{name: all, members: ➤[]}"), message: `members is an empty list (remove the field or give it a value)`},
		{promise: "group without members", section: "groups", text: group("➤{name: all}"), message: `a group needs the field "members" or "slack_usergroup"`},
		{promise: "unknown owner", section: "callers", text: callers("upstreams: [billing], owners: [➤anna]"), message: `unknown person "anna" (did you mean "ana"?)`},
		{promise: "group as owner", section: "callers", text: callers("upstreams: [billing], owners: [➤security]"), message: `"security" is a group, not a person (owners are people; list the group's members)`},
		{promise: "unknown upstream of a caller", section: "callers", text: callers("upstreams: [billing, ➤biling]"), message: `unknown upstream "biling" (did you mean "billing"?)`},
		{promise: "caller twice", section: "callers", text: callers("upstreams: [billing]") + "  - {name: ➤bot, key_sha256: " + otherHash + ", upstreams: [billing]}\n", message: `the caller "bot" is already defined (line 2)`},
		{promise: "key twice", section: "callers", text: callers("upstreams: [billing]") + "  - {name: bat, key_sha256: ➤" + keyHash + ", upstreams: [billing]}\n", message: `the caller "bot" and the caller "bat" have the same key`},
		{promise: "key for a hash", section: "callers", text: "callers:\n  - {name: bot, key_sha256: ➤csk_abc, upstreams: [billing]}\n", message: `key_sha256 must be the SHA-256 of the key: 64 hex digits (this is the key itself; put its hash here and the key away)`},
		{promise: "no hash behind a reference", section: "callers", text: "callers:\n  - {name: bot, key_sha256: ➤env:NOT_A_HASH, upstreams: [billing]}\n", message: `key_sha256 must be the SHA-256 of the key: 64 hex digits`},
		{promise: "hash that is a list", section: "callers", text: "callers:\n  - {name: bot, key_sha256: ➤[a], upstreams: [billing]}\n", message: `key_sha256 must be text, not a list`},
		{promise: "hash behind nothing", section: "callers", text: "callers:\n  - {name: bot, key_sha256: ➤env:UNSET, upstreams: [billing]}\n", message: `the environment variable of env:UNSET is not set or empty`},
		{promise: "hash missing", section: "callers", text: "callers:\n  - ➤{name: bot, upstreams: [billing]}\n", message: `a caller needs key_sha256, keys or login: nobody could be it`},
		{promise: "origin with a path", section: "callers", text: callbacks(`origins: [➤"https://a.example.com/hooks"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin must not have a path, query or fragment`},
		{promise: "origin with a slash", section: "callers", text: callbacks(`origins: [➤"https://a.example.com/"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin must not have a path, query or fragment`},
		{promise: "origin in plain http", section: "callers", text: callbacks(`origins: [➤"http://a.example.com"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin must be https (egress.callbacks.allow_http is off)`},
		{promise: "origin with a wildcard", section: "callers", text: callbacks(`origins: [➤"https://*.example.com"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin must name one host in ASCII letters, digits, - and .`},
		{promise: "origin with user information", section: "callers", text: callbacks(`origins: [➤"https://u:p@a.example.com"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin must not have user information`},
		{promise: "origin that is this machine", section: "callers", text: callbacks(`origins: [➤"https://localhost:9000"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin is this machine (egress.callbacks.allow_loopback is off)`},
		{promise: "origin that is an address", section: "callers", text: callbacks(`origins: [➤"https://10.0.0.1"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin is an address outside egress.callbacks.allow_prefixes`},
		{promise: "origin with another port", section: "callers", text: callbacks(`origins: [➤"https://a.example.com:9443"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin has a port other than 443 and 8443 (see egress.callbacks.allow_ports)`},
		{promise: "origin twice in other words", section: "callers", text: callbacks(`origins: ["https://a.example.com", ➤"https://A.example.com:443"], secret: env:PAYROLL_CALLBACK_SECRET`), message: `the origin https://a.example.com:443 is listed twice`},
		{promise: "no origin", section: "callers", text: callbacks(`origins: [➤a.example.com], secret: env:PAYROLL_CALLBACK_SECRET`), message: `this is not an origin (write https://host or https://host:port)`},
		{promise: "callbacks without secret", section: "callers", text: callers("upstreams: [billing], callbacks: ➤{origins: [\"https://a.example.com\"]}"), message: `callbacks needs the field "secret" or "secrets"`},
		{promise: "callbacks with both", section: "callers", text: callers("upstreams: [billing], callbacks: ➤{origins: [\"https://a.example.com\"], secret: env:PAYROLL_CALLBACK_SECRET, secrets: [env:PAYROLL_CALLBACK_SECRET]}"), message: `callbacks has both secret and secrets (keep secrets, newest first)`},
		{promise: "secret that cannot sign", section: "callers", text: callbacks(`origins: ["https://a.example.com"], secret: ➤env:NOT_SIGNING`), message: `what env:NOT_SIGNING holds is not whsec_ followed by the base64 of 24 to 64 bytes`},
	}
}

const morePeople = "  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO}\n  - {name: chen, slack: U0CHEN}\n"

func group(text string) string {
	return "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - " + text + "\n"
}

func mistakesOfUpstreams() []mistake {
	base := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "upstreams", text: baseURL(text), message: "base_url " + message}
	}
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "upstreams", text: upstream(text), message: message}
	}
	return []mistake{
		base("base over another protocol", `➤"ftp://billing.internal"`, "must be http or https"),
		base("base that is relative", `➤"/v1"`, "is not an absolute URL"),
		base("base with user information", `➤"https://u:p@billing.internal"`, "must not have user information; use credentials"),
		base("base with a query", `➤"https://billing.internal/?a=b"`, "must not have a query or fragment"),
		base("base with a fragment", `➤"https://billing.internal/#a"`, "must not have a query or fragment"),
		base("base with dot segments", `➤"https://billing.internal/a/../b"`, "has a path that servers may read in two ways"),
		base("base with a bad port", `➤"https://billing.internal:0"`, "has a bad port"),
		base("base with a strange host", `➤"https://bílling.internal"`, "must have a host name in lower-case ASCII letters, digits, - and ., or an address"),
		base("base with a number for a host", `➤"https://127.1"`, "must have a host name in lower-case ASCII letters, digits, - and ., or an address"),
		{promise: "upstream without base", section: "upstreams", text: "upstreams:\n  - ➤{name: billing}\n", message: `an upstream needs the field "base_url"`},
		of("credential with a hop-by-hop header", "credentials: {header: ➤Transfer-Encoding, value: env:BILLING_TOKEN}", `the header "transfer-encoding" cannot be a credential`),
		of("credential with no header name", "credentials: {header: ➤\"a b\", value: env:BILLING_TOKEN}", `the header is not a valid header name`),
		of("credential twice", "credentials: [{header: X-Key, value: env:BILLING_TOKEN}, {header: ➤x-key, value: env:BILLING_TOKEN}]", `the header "x-key" has a credential already`),
		of("credential with a line break", "credentials: {header: Authorization, value: ➤env:TWO_LINES}", `what env:TWO_LINES holds has a character that a header field cannot carry`),
		of("too many credentials", "credentials: ➤["+credentialList(9)+"]", `at most 8 credentials are allowed`),
		of("status that is a list", "success: [➤[200]]", `a status must be 404, 200-204 or 2xx, not a list`),
		of("unknown method", "methods: [GET, ➤DELTE]", `unknown method "DELTE" (did you mean "DELETE"?)`),
		of("method in lower case", "methods: [➤get]", `unknown method "get" (did you mean "GET"?)`),
		of("timeout too long", "timeout: ➤51s", `timeout must be between 100ms and 50s`),
		of("answer too large", "max_response: ➤9MiB", `max_response must be between 1 and 8MiB`),
		of("status out of range", "success: [2xx, ➤600]", `a status must be 404, 200-204 or 2xx`),
		of("status range upside down", "success: [➤204-200]", `a status must be 404, 200-204 or 2xx`),
		of("request header of ours", "request_headers: [accept, ➤Authorization]", `the header "authorization" cannot be set by a caller`),
		of("request header that forges", "request_headers: [➤X-Forwarded-For]", `the header "x-forwarded-for" cannot be set by a caller`),
		of("no header name", "response_headers: [➤\"a b\"]", `this is not a valid header name`),
	}
}

func credentialList(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("{header: A%d, value: env:BILLING_TOKEN}", i))
	}
	return strings.Join(out, ", ")
}

func mistakesOfRules() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "rules", text: text, message: message}
	}
	const template = `a path is "/", literals and {name} between slashes, and {name...} at the end`
	return []mistake{
		of("rule without match", "rules:\n  - ➤{name: r, action: allow}\n", `a rule needs the field "match"`),
		of("rule without consequence", "rules:\n  - ➤{name: r, match: {upstream: billing}}\n", `the rule says neither who approves nor what to do (add stages, or action: allow or deny)`),
		of("unknown action", rule("action: ➤alow"), `action must be allow or deny (to ask people, leave action out and list stages)`),
		of("action and stages", rule("action: ➤allow, stages: [{name: one, need: [{from: [bo], approvals: 1}]}]"), `a rule has an action or stages, not both (remove one of them)`),
		of("reason without denial", "rules:\n  - ➤{name: r, match: {}, action: allow, reason: because}\n", `reason is for rules with action: deny`),
		of("redaction of nothing known", rule("action: allow, redact: [➤ssn]"), `redact takes headers.NAME, query.NAME, body or body.FIELD.FIELD`),
		of("expiry too late", rule("action: allow, expires_in: ➤31d"), `expires_in must be between 1s and 30d`),
		of("execution too late", rule("action: allow, execute_within: ➤25h"), `execute_within must be between 1s and 1d`),
		of("unknown upstream", match("upstream: ➤biling"), `unknown upstream "biling" (did you mean "billing"?)`),
		of("unknown caller", match("caller: ➤bott"), `unknown caller "bott" (did you mean "bot"?)`),
		of("caller and callers", "rules:\n  - name: r\n    action: allow\n    match:\n      ➤caller: bot\n      callers: [bot]\n", `match has both caller and callers (keep callers)`),
		of("unknown method", match("methods: [➤FETCH]"), `unknown method "FETCH" (did you mean "PATCH"?)`),
		of("path without a slash", match("path: ➤customers"), `a path must begin with a slash`),
		of("path with an empty part", match("path: ➤/a//b"), template),
		of("path with a dot part", match("path: ➤/a/../b"), template),
		of("path with a star", match("path: ➤/a/*"), template),
		of("path with half a variable", match(`path: ➤"/a/x{id}"`), template),
		of("path with a query", match(`path: ➤"/a?b"`), template),
		of("path with a broken escape", match(`path: ➤"/a%zz"`), template),
		of("path with the rest inside", match(`path: ➤"/{a...}/b"`), `{name...} can only be the last part of a path`),
		of("path with a name twice", match(`path: ➤"/{a}/{a}"`), `a path must not use a name twice`),
		of("rule twice", match("methods: [GET]")+"  - {name: ➤r, action: deny, match: {}}\n", `the rule "r" is already defined (line 12)`),
		of("rule hidden by one for all", match("upstream: billing")+hidden("methods: [GET], upstream: billing"), hiddenMessage),
		of("rule hidden by one for any upstream", match("methods: [GET, HEAD]")+hidden("methods: [GET], upstream: billing"), hiddenMessage),
		of("rule hidden by a path", match("path: \"/a/{x...}\"")+hidden("path: \"/a/b/{y}\", upstream: billing"), hiddenMessage),
		of("rule hidden by a variable", match("path: \"/{x}/b\"")+hidden("path: \"/a/b\", upstream: billing"), hiddenMessage),
		of("rule hidden by its caller", match("callers: [bot]")+hidden("upstream: billing"), hiddenMessage),
		of("stage without a set", rule("stages: [➤{name: one}]"), `a stage needs the field "need"`),
		of("stage twice", rule("stages: [{name: one, need: [{from: [bo], approvals: 1}]}, {name: ➤one, need: [{from: [chen], approvals: 1}]}]"), `the rule has a stage "one" already`),
		of("too many stages", rule("stages: ➤["+strings.Repeat("{name: a},", 11)+"]"), `stages has 11 items, at most 10 are allowed`),
		of("too long a reason", rule("action: deny, reason: ➤"+strings.Repeat("x", 1001)), `reason is longer than 1000 bytes`),
		of("reason of nothing", rule("action: deny, reason: ➤' '"), `reason is empty`),
		of("mapping for a reason", rule("action: deny, reason: ➤{}"), `reason must be text, not a mapping`),
		of("unknown approver of an escalation", stage("need: [{from: [bo], approvals: 1}], escalate: [{after: 1h, to: [➤an]}]"), `unknown person or group "an" (did you mean "ana"?)`),
		of("unknown approver", stage("need: [{from: [➤securty], approvals: 1}]"), `unknown person or group "securty" (did you mean "security"?)`),
		of("quorum of nothing", stage("need: [{from: [bo], approvals: ➤0}]"), `approvals must be between 1 and 100`),
		of("quorum left out", stage("need: [➤{from: [bo]}]"), `an approver set needs the field "approvals"`),
		of("quorum below nothing", stage("need: [{from: [bo], approvals: ➤-1}]"), `approvals must be between 1 and 100`),
		of("quorum of a half", stage("need: [{from: [bo], approvals: ➤1.5}]"), `approvals must be a whole number, not a decimal number`),
		of("quorum beyond all numbers", stage("need: [{from: [bo], approvals: ➤18446744073709551615}]"), `approvals must be between 1 and 100`),
		of("nobody asked", stage("need: [{from: ➤[], approvals: 1}]"), `from is an empty list (remove the field or give it a value)`),
		of("reminder after the end", rule("expires_in: 1h, stages: [{name: one, need: [{from: [bo], approvals: 1}], remind: ➤{every: 1h}}]"), `the first reminder would come after the ticket has expired (expires_in: 1h)`),
		of("escalations out of order", stage("need: [{from: [bo], approvals: 1}], escalate: [{after: 2h, to: [ana]}, {after: ➤2h, to: [chen]}]"), `escalations must be in order: 2h is not later than 2h before it`),
		of("escalation after the end", stage("need: [{from: [bo], approvals: 1}], escalate: [{after: ➤24h, to: [ana]}]"), `the escalation would come after the ticket has expired (expires_in: 1d)`),
		of("escalation of another kind", stage("need: [{from: [bo], approvals: 1}], escalate: [{after: 1h, to: [ana], mode: ➤replce}]"), `mode must be add or replace (did you mean "replace"?)`),
		{promise: "rule for methods that are not there", section: "rules", also: map[string]string{"upstreams": upstream("methods: [GET]")}, text: match("upstream: billing, methods: [➤DELETE]"), message: `the rule can never match: upstream "billing" allows none of these methods`},
		{promise: "rule for a caller without access", section: "rules", also: map[string]string{"upstreams": upstream("methods: [GET]") + "  - {name: other, base_url: \"https://other.internal\"}\n"}, text: match("upstream: other, callers: [➤bot]"), message: `the rule can never match: caller "bot" may not use upstream "other"`},
	}
}

func hidden(text string) string { return "  - {name: ➤later, action: deny, match: {" + text + "}}\n" }

const hiddenMessage = `rule "later" can never match: rule "r" before it (line 12) matches every call it does`

func mistakesOfQuorum() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "rules", text: text, message: message}
	}
	return []mistake{
		of("more approvals than people", stage("need: [{from: [bo, security], approvals: ➤4}]"), `4 approvals are asked for, but only 3 people may decide: ana, bo, chen`),
		of("more denials than people", stage("need: [{from: [bo], approvals: 1}], denials: ➤2"), `2 denials can never be reached: only 1 person may decide`),
		of("one person for two sets", "rules:\n  - {name: ➤r, match: {}, stages: [{name: one, need: [{from: [bo], approvals: 1}, {from: [bo], approvals: 1}]}]}\n", `rule "r" can never be approved: it needs 2 approvals by distinct people, but only these may decide: bo`),
		of("one person for two stages", "rules:\n  - {name: ➤r, match: {}, stages: [{name: one, need: [{from: [bo], approvals: 1}]}, {name: two, need: [{from: [bo], approvals: 1}]}]}\n", `rule "r" can never be approved: it needs 2 approvals by distinct people, but only these may decide: bo`),
		of("sets that compete for people", "rules:\n  - {name: ➤r, match: {}, stages: [{name: one, need: [{from: [bo], approvals: 1}, {from: [bo], approvals: 1}, {from: [ana, chen], approvals: 1}]}]}\n", `rule "r" can never be approved: it needs 3 approvals by distinct people, which no arrangement of those who may decide can give: ana, bo, chen`),
		of("owners are most of the people", "rules:\n  - {name: ➤r, match: {}, stages: [{name: one, need: [{from: [security], approvals: 3}]}]}\n", `rule "r" can never be approved for caller "bot", whose owners do not count: it needs 3 approvals by distinct people, but only these may decide: bo, chen`),
		of("replacement by too few", stage("need: [{from: [security], approvals: 2}], escalate: [➤{after: 1h, to: [bo], mode: replace}]"), `after this escalation stage "one" can never be approved: it needs 2 approvals by distinct people, but only these may decide: bo`),
		of("replacement by owners", stage("need: [{from: [security], approvals: 1}], escalate: [➤{after: 1h, to: [ana], mode: replace}]"), `after this escalation stage "one" can never be approved for caller "bot", whose owners do not count: it needs 1 approval, but only these may decide: nobody`),
	}
}
