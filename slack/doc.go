// Package slack is how Countersign shows requests to people in Slack and hears what they
// decide. It is the only importer of slack-go and never reads the database: everything it
// shows or checks is an argument.
//
// Inbound, in this order: [Verifier.Verify] on the raw bytes, [ReplayKey] for the replay
// table, [ParseInteraction], [ParseCommand] or [ParseEvent], and only then a look at who it
// is of. What comes through a socket is parsed by the same code ([ParseInteractionJSON],
// [ParseCommandJSON]). An [Interaction] carries nothing authoritative but an opaque handle;
// the request that is decided on is read from the database row behind it, never from the
// message.
//
// Outbound: a [View] of a ticket goes through one of the renderers, which are pure, and then
// through a [Client]. For those who decide: [Card], [Review] (the whole request, on pages),
// a [Modal], and notes for the thread ([Reminder], [Escalation], [Asked], [Answered],
// [Stalled], [AskedAgain], [GlassBroken]). For those who asked for the call: [AnswerRequest]
// and [OutcomeNotice]. For one person alone: [Home] and [Listing]. One renderer makes every
// copy of a card in every state, so that copies cannot disagree; [Lint] and its kin hold all
// of them to the limits of Block Kit.
//
// What callers and approvers wrote is shown as it is: in rich text or plain text objects
// only, never in mrkdwn, with everything invisible spelled out. What tells requests apart
// beyond all doubt is the fingerprint, which is made under a key that is not known here and
// never by this package. A request that its card cannot show in full is approved from the
// full view alone ([NeedsReview]), and one that cannot be judged even there from nowhere
// ([Review.Obstacle]). [Offers] says what a card offers.
package slack
