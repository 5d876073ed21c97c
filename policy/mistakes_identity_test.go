package policy_test

// people is the people that the small configuration needs, and one more.
func people(last string) string { return "people:\n" + morePeople + "  - " + last + "\n" }

const twoLogins = "logins:\n  - {issuer: \"https://a.example.com\", audience: gate}\n  - {issuer: \"https://id.vendor.example/\", audience: gate, email: true}\n"

// mistakesOfIdentity are about how people are known, and about who acts for them.
func mistakesOfIdentity() []mistake {
	of := func(promise, last, message string) mistake {
		return mistake{
			promise: promise, section: "people", text: people(last), message: message, also: map[string]string{"logins": twoLogins},
		}
	}
	two := func(promise, a, b, message string) mistake { return of(promise, a+"\n  - "+b, message) }
	login := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "logins", text: text, message: message}
	}
	const a, dee = `issuer: "https://a.example.com"`, "name: dee, slack: U0DEE"
	return []mistake{
		two("second Slack id of another", "{name: dee, slack: [U0DEE, U0DEF]}", "{name: eli, slack: [U0ELI, ➤U0DEF]}", `the Slack id "U0DEF" is already defined (line 10)`),
		of("Slack id twice in a list", "{name: dee, slack: [U0DEE, ➤U0DEE]}", `slack has "U0DEE" twice`),
		of("Slack id that is none in a list", "{name: dee, slack: [U0DEE, ➤dee]}", `slack must be a member id, such as U0123ABCD, not a name`),
		of("no Slack id in a list", "{name: dee, slack: ➤[]}", `slack is an empty list (remove the field or give it a value)`),
		of("too many Slack ids", "{name: dee, slack: ➤[U01, U02, U03, U04, U05, U06, U07, U08, U09, U10, U11]}", `slack has 11 items, at most 10 are allowed`),
		of("e-mail address twice in a list", "{name: dee, email: [dee@example.com, ➤Dee@example.com]}", `email has "Dee@example.com" twice`),
		two("e-mail address of another but for the case", "{name: dee, email: dee@example.com}", "{name: eli, email: [eli@example.com, ➤DEE@example.com]}", `the e-mail address "DEE@example.com" differs only in case from "dee@example.com" (line 10)`),
		two("login of another", "{name: dee, login: {"+a+", subject: x}}", "{name: eli, login: {"+a+", subject: ➤x}}", `the login "https://a.example.com x" is already defined (line 10)`),
		of("login at an unknown provider", "{name: dee, login: {issuer: ➤\"https://id.vendor.example\", subject: x}}", `unknown issuer "https://id.vendor.example" (did you mean "https://id.vendor.example/"?)`),
		of("login without a subject", "{name: dee, slack: U0DEE, login: ➤{"+a+"}}", `login needs the field "subject"`),
		of("login with a number for a subject", "{name: dee, login: {"+a+", subject: ➤17}}", `subject must be text, not a number (put it in quotes)`),
		of("text for a login", "{name: dee, login: ➤x}", `login must be a mapping of fields, not text`),
		of("subject that could be a member of Slack", "{"+dee+", login: {"+a+", subject: ➤U0XYZ}}", `the subject looks like the Slack id of a member: if it is one, list it under slack too`),
		two("subject that is the address of another", "{name: dee, email: dee@example.com}", "{name: eli, login: {"+a+", subject: ➤dee@EXAMPLE.com}}", `the subject "dee@EXAMPLE.com" is the e-mail address of another person (line 10)`),
		of("key of a caller", "{name: dee, key_sha256: ➤"+keyHash+"}", `the caller "bot" and the person "dee" have the same key`),
		two("key of another", "{name: dee, key_sha256: "+otherHash+"}", "{name: eli, key_sha256: ➤"+otherHash+"}", `the person "dee" and the person "eli" have the same key`),
		of("personal key for a hash", "{name: dee, key_sha256: ➤csp_abc}", `key_sha256 must be the SHA-256 of the key: 64 hex digits (this is the key itself; put its hash here and the key away)`),
		of("absence without an end", "{"+dee+", away: ➤{delegate: bo}}", `away needs the field "until"`),
		of("absence until some day", "{"+dee+", away: {until: ➤christmas}}", `this is neither a date nor a time with its zone (write 2026-12-24 or 2026-12-24T09:00:00+01:00)`),
		of("absence until a day that is none", "{"+dee+", away: {until: ➤2026-02-30}}", `this is neither a date nor a time with its zone (write 2026-12-24 or 2026-12-24T09:00:00+01:00)`),
		of("absence until a time nowhere", "{"+dee+", away: {until: ➤\"2026-12-24T09:00:00\"}}", `this is neither a date nor a time with its zone (write 2026-12-24 or 2026-12-24T09:00:00+01:00)`),
		of("unknown delegate", "{"+dee+", away: {until: 2026-12-24, delegate: ➤boo}}", `unknown person "boo" (did you mean "bo"?)`),
		of("group as delegate", "{"+dee+", away: {until: 2026-12-24, delegate: ➤security}}", `"security" is a group, not a person (a delegate is one person)`),
		of("delegate of themself", "{"+dee+", away: {until: 2026-12-24, delegate: ➤dee}}", `"dee" cannot be their own delegate`),
		two("delegates in a circle", "{name: dee, slack: U0DEE, away: {until: 2026-12-24, delegate: eli}}", "{name: eli, slack: U0ELI, away: {until: 2026-12-25, delegate: ➤dee}}", `delegates in a circle: in the end "dee" stands in for themself`),
		of("too long a chain of delegates", chain(11), `the chain of delegates that begins here is longer than 10`),
		login("provider without https", "logins: [{issuer: ➤\"http://a.example.com\", audience: gate}]\n", `issuer must be https unless it is this machine`),
		login("provider that is no URL", "logins: [{issuer: ➤a.example.com, audience: gate}]\n", `issuer is not an absolute URL`),
		login("provider with a query", "logins: [{issuer: ➤\"https://a.example.com/?x\", audience: gate}]\n", `issuer must not have a query or fragment`),
		login("provider without audience", "logins: [➤{issuer: \"https://a.example.com\"}]\n", `a login needs the field "audience"`),
		login("provider twice", "logins:\n  - {issuer: \"https://a.example.com\", audience: one}\n  - {issuer: ➤\"https://a.example.com\", audience: two}\n", `the issuer "https://a.example.com" is already defined (line 4)`),
		login("too many providers", "logins:\n"+providers(5)+"  - {issuer: ➤\"https://last.example.com\", audience: gate}\n", `at most 5 logins are allowed`),
		{promise: "unknown operator", section: "operators", text: "operators: [bo, ➤securty]\n", message: `unknown person or group "securty" (did you mean "security"?)`},
		{promise: "operator twice", section: "operators", text: "operators: [bo, ➤bo]\n", message: `operators has "bo" twice`},
	}
}

// mistakesOfHours are about when people are at work.
func mistakesOfHours() []mistake {
	of := func(promise, hours, message string) mistake {
		return mistake{promise: promise, section: "groups", text: group("{name: day, members: [bo], hours: {" + hours + "}}"), message: message}
	}
	const nineToFive = `timezone: Europe/Berlin, from: "09:00", to: "17:00", `
	return []mistake{
		{promise: "hours without a zone", section: "groups", text: group("{name: day, members: [bo], hours: ➤{from: 09:00, to: 17:00}}"), message: `hours needs the field "timezone"`},
		{promise: "text for hours", section: "groups", text: group("{name: day, members: [bo], hours: ➤9-5}"), message: `hours must be a mapping of fields, not text`},
		of("unknown zone", "timezone: ➤Europe/Bonn, from: 09:00, to: 17:00", `unknown time zone "Europe/Bonn" (write an IANA name, such as Europe/Berlin or UTC)`),
		of("zone of this machine", "timezone: ➤Local, from: 09:00, to: 17:00", `unknown time zone "Local" (write an IANA name, such as Europe/Berlin or UTC)`),
		of("zone with leap seconds", "timezone: ➤right/UTC, from: 09:00, to: 17:00", `unknown time zone "right/UTC" (write an IANA name, such as Europe/Berlin or UTC)`),
		of("zone outside of the folder", "timezone: ➤../passwd, from: 09:00, to: 17:00", `unknown time zone "../passwd" (write an IANA name, such as Europe/Berlin or UTC)`),
		of("unknown day", nineToFive+"days: [mon, ➤tues]", `days are mon, tue, wed, thu, fri, sat, sun (did you mean "tue"?)`),
		of("day twice", nineToFive+"days: [mon, ➤mon]", `days has "mon" twice`),
		of("no day", nineToFive+"days: ➤[]", `days is an empty list (remove the field or give it a value)`),
		of("hour without a zero", `timezone: UTC, from: ➤"9:00", to: 17:00`, `from is not a time of day (write "09:00")`),
		of("hour with seconds", `timezone: UTC, from: 09:00, to: ➤"17:00:00"`, `to is not a time of day (write "09:00")`),
		of("hour as a number", `timezone: UTC, from: ➤9, to: 17:00`, `from must be text, not a number (put it in quotes)`),
		of("day that begins when it ends", `timezone: UTC, from: ➤"24:00", to: "24:00"`, `from is not a time of day (write "09:00")`),
		of("past midnight", `timezone: UTC, from: "18:00", to: ➤"02:00"`, `to must be later than from (split what goes past midnight: a group until "24:00" and one from "00:00")`),
		of("no time at all", `timezone: UTC, from: "09:00", to: ➤"09:00"`, `to must be later than from (split what goes past midnight: a group until "24:00" and one from "00:00")`),
		of("holiday that is no date", nineToFive+"holidays: [➤25.12.2026]", `this is not a date (write 2026-12-25)`),
		of("holiday twice", nineToFive+"holidays: [2026-12-25, ➤2026-12-25]", `holidays has "2026-12-25" twice`),
		{promise: "hours that never meet", section: "rules", also: map[string]string{"groups": scattered(5)}, text: rule("stages: [➤{name: one, need: [{from: [g0, g1, g2, g3, g4], approvals: 1}]}]"), message: `the hours of the groups asked here make 150 spans of work in 30 days, at most 128 are allowed (let their hours meet)`},
	}
}
