// Package notify tells people in Slack about tickets: whom, what and where ([Planner]), and
// brings it there, each message once as far as that can be known ([Sender]).
//
// The two meet in the database only. The planner writes down what is owed, under names that
// make doing it twice doing it once: messages in the outbox, and the version of its ticket
// that every card should show. The sender takes that up, asks the planner what a message says
// at that moment, and calls Slack outside of any transaction. So nothing is lost when a
// process dies or Slack is away, and what has become pointless meanwhile is not said.
package notify
