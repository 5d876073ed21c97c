// Package emulator is a Slack workspace on the loopback interface: the Web API an app calls,
// the signed interactions, events and slash commands Slack sends back, over HTTP or Socket
// Mode, and a page at "/" on which a person reads the cards and presses the buttons.
//
// It is written from Slack's documentation and shares no code with the client it serves, so
// that client and server cannot be wrong together. It is strict where an app can go wrong:
// Block Kit limits, who can see which message, what a trigger_id is good for, how long an
// acknowledgement may take, how often a response_url may be used, what a token may do.
//
// Everything a person could do in Slack is a method of [Server] (Click, SubmitView, CloseView,
// OpenHome, Slash, Post, Reply) and a JSON endpoint under /_emulator/; everything a person
// could see is in [Snapshot]. Every change wakes [Server.Wait], so a test waits on what it
// expects and never sleeps. What Slack does of its own accord is there too: edits of people,
// channels and user groups send their events, [Server.Fire] sends any other, [Fault] makes
// calls and deliveries go wrong, [Limits] turns the rate limits on, and a [Clock] that is moved
// by hand lets minutes and hours pass at once.
//
// # Parts
//
// config.go, server.go, clock.go: what a workspace is made of. call.go and tokens.go: one Web
// API call, its token, scope and envelope; limits.go its rate limit; chat.go, history.go,
// conversations.go, directory.go, view.go, home.go: the methods. check.go, blocks.go,
// richtext.go: Block Kit. deliver.go: how anything reaches the app; interact.go, submit.go,
// slash.go, events.go, tell.go: what does; socket.go: Socket Mode. render.go, mrkdwn.go,
// notify.go, snapshot.go: what people see. driver.go, admin.go: the JSON endpoints.
//
// # For the page
//
// The page reads GET /_emulator/state, a [Snapshot], and long-polls GET /_emulator/wait?since=SEQ
// for the next change. Besides channels with their messages, ephemerals, modals (views),
// notifications and warnings, the state holds homes (a [View] for every person who has a Home
// tab; its buttons work with POST /_emulator/click and view_id), bot_name, commands (the slash
// commands there are, empty when any will do), socket_mode and sockets, limits, and now_ms, the
// workspace's time. POST /_emulator/home {user} is opening the Home tab and POST
// /_emulator/commands {user, channel, command, text} is typing a command; both answer with a
// [Seen]. README.md lists every endpoint.
package emulator
