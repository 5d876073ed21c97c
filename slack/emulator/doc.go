// Package emulator is a Slack workspace on the loopback interface: the Web API that
// Countersign calls, the signed interactions Slack sends back, and a page at "/" on which a
// person reads the cards and presses the buttons.
//
// It is written from Slack's documentation and shares no code with the client it serves, so
// that client and server cannot be wrong together. It is strict where Countersign can go
// wrong: Block Kit limits, who can see which message, what a trigger_id is good for, how long
// an acknowledgement may take, how often a response_url may be used.
//
// Everything a person could do in Slack is a method of [Server] (Click, SubmitView, CloseView,
// Post) and a JSON endpoint under /_emulator/; everything a person could see is in [Snapshot].
// Every change wakes [Server.Wait], so a test waits on what it expects and never sleeps.
//
// Not emulated yet: Socket Mode, App Home, event subscriptions, Enterprise Grid, and rate
// limits other than those a [Fault] asks for.
package emulator
