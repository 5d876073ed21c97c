// Package slack is how Countersign shows requests to people in Slack and hears what they
// decide. It is the only importer of slack-go and never reads the database: everything it
// shows or checks is an argument.
//
// Inbound, in this order: [Verifier.Verify] on the raw bytes, [ReplayKey] for the replay
// table, [ParseInteraction], and only then a look at who clicked. An [Interaction] carries
// nothing authoritative but an opaque handle; the request that is decided on is read from
// the database row behind it, never from the message.
//
// Outbound: a [View] of a ticket goes through [Card], a [Modal], or one of the notes for its
// thread ([Reminder], [Escalation], [Asked], [Answered], [Stalled], [AskedAgain],
// [GlassBroken]), which are pure, and then through a [Client]. One renderer makes every
// copy of a card in every state, so that copies cannot disagree.
//
// What callers and approvers wrote is shown as it is: in rich text or plain text objects
// only, never in mrkdwn, with everything invisible spelled out. A card that cannot show all
// of a request offers no way to approve it, nor to break the glass; [Offers] says what a card
// offers.
package slack
