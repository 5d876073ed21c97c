// Package interact is the door for Slack: what people press, type and open there, over HTTP
// or a socket.
//
// A request is read, its signature checked over the raw bytes, and parsed. Then it is written
// down ([db.Store.TakeInbound]), so that nothing that was taken can be lost; then what it asks
// for is decided in one transaction with the note that it is done ([db.Store.AdvanceInbound]),
// so that nothing is done twice; and then Slack is answered, within two seconds. What does not
// fit into them is finished by [Desk.Work] a little later, in whichever process.
//
// Nothing in a request is believed but who did something, where, with what kind of button, and
// on which handle. What the handle leads to is in the database; who the person is, Slack is
// asked, and an answer older than half a minute does not count. Whatever cannot be checked is
// refused, said to the person, and recorded.
package interact
