package policy_test

import "strings"

// mistakesOfCallers are about keys, tokens and limits.
func mistakesOfCallers() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{
			promise: promise, section: "callers", message: message, also: map[string]string{"logins": twoLogins},
			text: "callers:\n  - {name: bot, upstreams: [billing], " + text + "}\n",
		}
	}
	key := func(promise, text, message string) mistake {
		return of(promise, "keys: [{name: a, "+text+"}]", message)
	}
	login := func(promise, text, message string) mistake {
		return of(promise, `login: `+text, message)
	}
	const sha, a = "sha256: " + keyHash, `issuer: "https://a.example.com"`
	other := func(promise, first, second, message string) mistake {
		return login(promise, first+"}\n  - {name: other, upstreams: [billing], login: "+second, message)
	}
	return []mistake{
		{
			promise: "keys in two ways", section: "callers", message: "there is both key_sha256 and keys (keep keys)",
			text: "callers:\n  - ➤{name: bot, upstreams: [billing], key_sha256: " + otherHash + ", keys: [{name: a, " + sha + "}]}\n",
		},
		of("key without a hash", "keys: [➤{name: a}]", `a key needs the field "sha256"`),
		key("key for a hash", "sha256: ➤csk_abc", `sha256 must be the SHA-256 of the key: 64 hex digits (this is the key itself; put its hash here and the key away)`),
		key("key that expires some day", sha+", expires: ➤christmas", `this is neither a date nor a time with its zone (write 2026-12-24 or 2026-12-24T09:00:00+01:00)`),
		key("unknown scope", sha+", scopes: [read, ➤sumbit]", `unknown scope "sumbit" (did you mean "submit"?)`),
		key("key of no network", sha+", networks: [➤10.0.0.1]", `this is not a network (write 10.1.0.0/16)`),
		key("key of an odd network", sha+", networks: [➤10.0.0.1/8]", `the network has bits set behind its length (write 10.0.0.0/8)`),
		key("key for an upstream that is not its caller's", sha+", upstreams: [➤biling]", `the caller "bot" may not use upstream "biling" (did you mean "billing"?)`),
		key("key for an unknown method", sha+", methods: [➤GETS]", `unknown method "GETS" (did you mean "GET"?)`),
		of("two keys of one name", "keys: [{name: a, "+sha+"}, {name: ➤A, sha256: "+otherHash+"}]", `the key "A" differs only in case from "a" (line 2)`),
		of("one key twice", "keys: [{name: a, "+sha+"}, {name: b, sha256: ➤"+keyHash+"}]", `the caller "bot" and the caller "bot" have the same key`),
		login("token of an unknown provider", `{issuer: ➤"https://b.example.com", subject: x}`, `unknown issuer "https://b.example.com" (did you mean "https://a.example.com"?)`),
		login("token of anybody", `➤{`+a+`}`, `login needs subject or claims: everybody with a token of the issuer would be this caller`),
		login("claim with a field of its own", `{`+a+`, claims: {➤sub: x}}`, `the claim "sub" is not compared here: iss, aud and the times are checked anyway, and sub is the field subject`),
		login("claim that is no text", `{`+a+`, claims: {repository_id: ➤17}}`, `repository_id must be text, not a number (put it in quotes)`),
		login("claims that are a list", `{`+a+`, claims: ➤[ref]}`, `claims must be a mapping of names to texts, not a list`),
		login("claim twice", `{`+a+`, claims: {ref: x, ➤ref: y}}`, `claims has "ref" twice`),
		login("claim without a value", `{`+a+`, subject: x, claims: {➤ref: }}`, `the field "ref" is empty (remove the field or give it a value)`),
		other("token of two callers", `{`+a+`, subject: x}`, `➤{`+a+`, subject: x, claims: {ref: main}}`, `a token could count as both the caller "bot" (line 2) and "other"`),
		other("token of two callers, the other way round", `{`+a+`, claims: {ref: main, repository: a}}`, `➤{`+a+`, claims: {ref: main}}`, `a token could count as both the caller "bot" (line 2) and "other"`),
		{
			promise: "token of a person", section: "callers", message: `this is the login of the person "dee"`,
			text: "callers:\n  - {name: bot, upstreams: [billing], login: {" + a + ", subject: ➤x}}\n",
			also: map[string]string{"logins": twoLogins, "people": people("{name: dee, slack: U0DEE, login: {" + a + ", subject: x}}")},
		},
		of("rate without a time", sha256Of+", limits: {submit: ➤'100'}", `submit is not a rate (write 10/s, 100/m or 1000/h)`),
		of("rate of nothing", sha256Of+", limits: {read: ➤0/m}", `read is not a rate (write 10/s, 100/m or 1000/h)`),
		of("limit of nothing", sha256Of+", limits: {open: ➤0}", `open must be between 1 and 1000000`),
		{promise: "personal key with scopes", section: "people", text: people("{name: dee, keys: [{name: a, sha256: " + otherHash + ", ➤scopes: [read]}]}"), message: `unknown field "scopes" in a key`},
		{promise: "unknown auditor", section: "auditors", text: "auditors: [➤annna]\n", message: `unknown person or group "annna" (did you mean "ana"?)`},
		{promise: "keyset in the file", section: "encryption", text: "encryption: {keyset: ➤secret}\n", message: `a secret must not stand in the configuration itself (write env:NAME or file:PATH)`},
		{promise: "key that cannot sign", section: "signing", text: "signing: {keys: [➤env:NOT_SIGNING]}\n", message: `what env:NOT_SIGNING holds is not whsk_ followed by the base64 of an ed25519 key of 32 or 64 bytes`},
		{promise: "proxy with a path", section: "egress", text: "egress: {callbacks: {proxy: ➤\"http://egress:3128/x\"}}\n", message: `proxy must have a port and no path (write http://host:port)`},
		{promise: "proxy with a user", section: "egress", text: "egress: {callbacks: {proxy: ➤\"http://u@egress:3128\"}}\n", message: `proxy must not have user information; use credentials`},
	}
}

const sha256Of = "key_sha256: " + keyHash

// mistakesOfEndpoints are about where callbacks go, and how.
func mistakesOfEndpoints() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "callers", text: callbacks("secret: env:PAYROLL_CALLBACK_SECRET, " + text), message: message}
	}
	origin := func(promise, text, message string) mistake {
		return of(promise, `origins: [{origin: "https://a.example.com", `+text+`}]`, message)
	}
	secrets := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "callers", text: callbacks(`origins: ["https://a.example.com"], secrets: ` + text), message: message}
	}
	return []mistake{
		of("origin twice in one word", `origins: ["https://a.example.com", {origin: ➤"https://a.example.com"}]`, `origins has "https://a.example.com" twice`),
		of("origin that is a number", `origins: [➤17]`, `origins must be text, not a number (put it in quotes)`),
		of("endpoint without an origin", `origins: [➤{payload: thin}]`, `an origin needs the field "origin"`),
		of("verification that is neither", `origins: ["https://a.example.com"], verification: ➤waive`, `verification must be required or waived (did you mean "waived"?)`),
		of("alert that is no channel", `origins: ["https://a.example.com"], alert: ➤Alerts`, `a channel is "#name" in lower case, quoted, or an id such as C0123ABCD`),
		origin("verification by an address", `verify: ➤"https://a.example.com/verify"`, `verify is a path that begins with a slash and can be read in one way, without a query (write /countersign/verify)`),
		origin("verification at a path of two readings", `verify: ➤/a/../b`, `verify is a path that begins with a slash and can be read in one way, without a query (write /countersign/verify)`),
		origin("unknown payload", `payload: ➤tiny`, `payload must be auto, full or thin (did you mean "thin"?)`),
		origin("signature without a key", `signature: ➤ed25519`, `there is no key to make this signature with (set signing.keys)`),
		origin("no attempts", `schedule: ➤[]`, `schedule is an empty list (remove the field or give it a value)`),
		origin("attempt after too long", `schedule: [0s, ➤25h]`, `schedule must be between 0s and 1d`),
		origin("too many attempts at a time", `concurrency: ➤101`, `concurrency must be between 1 and 100`),
		origin("too patient", `timeout: ➤31s`, `timeout must be between 1s and 30s`),
		origin("given up too soon", `disable_after: ➤1m`, `disable_after must be between 1h and 30d`),
		origin("header that says what the callback is", `headers: {header: ➤Webhook-Id, value: env:HOOKS_TOKEN}`, `the header "webhook-id" says what the callback is and cannot be set`),
		origin("header that signs the callback", `headers: {header: ➤signature-input, value: env:HOOKS_TOKEN}`, `the header "signature-input" says what the callback is and cannot be set`),
		origin("header that frames the callback", `headers: {header: ➤Transfer-Encoding, value: env:HOOKS_TOKEN}`, `the header "transfer-encoding" cannot be a credential`),
		origin("authority that is none", `ca: ➤env:HOOKS_TOKEN`, `what env:HOOKS_TOKEN holds is no certificate in PEM`),
		origin("certificate without its key", `certificate: ➤{certificate: env:CLIENT_CERTIFICATE}`, `certificate needs the field "key"`),
		origin("certificate with another key", `certificate: ➤{certificate: env:CLIENT_CERTIFICATE, key: env:HOOKS_TOKEN}`, `what env:CLIENT_CERTIFICATE and env:HOOKS_TOKEN hold is no certificate with its key`),
		secrets("secrets that all end", `➤[{secret: env:PAYROLL_CALLBACK_SECRET, until: 2026-12-01}]`, `every secret has an end: one day nothing could be signed`),
		secrets("secret twice", `[env:PAYROLL_CALLBACK_SECRET, ➤{secret: env:PAYROLL_CALLBACK_SECRET, until: 2026-12-01}]`, `secrets has env:PAYROLL_CALLBACK_SECRET twice`),
		secrets("secret until some day", `[env:PAYROLL_CALLBACK_SECRET, {secret: env:NEW_CALLBACK_SECRET, until: ➤soon}]`, `this is neither a date nor a time with its zone (write 2026-12-24 or 2026-12-24T09:00:00+01:00)`),
		secrets("too many secrets", `➤[`+strings.Repeat("env:X, ", 10)+`env:X]`, `secrets has 11 items, at most 10 are allowed`),
	}
}

// mistakesOfLanes are about how upstreams are called, and what rules say of answers.
func mistakesOfLanes() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "upstreams", text: upstream(text), message: message}
	}
	value := func(promise, text, message string) mistake {
		return of(promise, "credentials: {header: A, value: "+text+"}", message)
	}
	return []mistake{
		of("breaker without an end", "breaker: ➤{failures: 5, within: 1m}", `breaker needs the field "for"`),
		of("proxy without a port", `proxy: ➤"http://egress.internal"`, `proxy must have a port and no path (write http://host:port)`),
		of("proxy that is no URL", `proxy: ➤egress`, `proxy is not an absolute URL`),
		of("password for no proxy", `proxy_authorization: ➤env:PROXY_AUTHORIZATION`, `there is no proxy to show this to (set proxy)`),
		of("prefix with two blanks", `credentials: {header: A, prefix: ➤"Bearer  ", value: env:BILLING_TOKEN}`, `prefix must be 1 to 64 characters that a header field can carry, with at most one space, at the end (write "Bearer ")`),
		of("cache of what does not change", `credentials: {header: A, value: env:BILLING_TOKEN, cache: ➤1m}`, `cache is for values that a program prints`),
		value("program without a path", `➤"exec:token --for billing"`, `after exec: the absolute path of a program is expected (write "exec:/path/to/program arguments")`),
		value("no program", `➤"exec:"`, `after exec: the absolute path of a program is expected (write "exec:/path/to/program arguments")`),
		value("program that is not there", `➤"exec:/nowhere/token --key canary"`, `the program /nowhere/token cannot be run: no such file or directory (write "exec:/path/to/program arguments")`),
		value("program that is a folder", `➤"exec:/etc"`, `the program /etc cannot be run: not a regular file (write "exec:/path/to/program arguments")`),
		value("program that cannot be run", `➤"exec:/etc/passwd"`, `the program /etc/passwd cannot be run: it is not executable (write "exec:/path/to/program arguments")`),
		value("program with too many words", `➤"exec:/bin/sh`+strings.Repeat(" x", 16)+`"`, `exec: has 17 words, at most 16 are allowed (write "exec:/path/to/program arguments")`),
		{promise: "program for a keyset", section: "encryption", text: "encryption: {keyset: ➤exec:/bin/sh}\n", message: `a secret must not stand in the configuration itself (write env:NAME or file:PATH)`},
		{promise: "success of what is denied", section: "rules", text: rule("action: deny, success: ➤[2xx]"), message: `success is for rules that let calls through`},
		{promise: "key for what is denied", section: "rules", text: rule("action: deny, idempotency_key: ➤required"), message: `idempotency_key is for rules that let calls through`},
		{promise: "secrecy of what is denied", section: "rules", text: rule("action: deny, sensitive: ➤true"), message: `sensitive is for rules that let calls through`},
		{promise: "key that is neither", section: "rules", text: rule("action: allow, idempotency_key: ➤always"), message: `idempotency_key must be optional or required`},
	}
}
