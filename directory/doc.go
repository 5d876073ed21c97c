// Package directory knows what Slack says of people, user groups and channels, and how old
// that is. What is known is kept in the database, so that a start is warm and processes
// share it; one of them at a time reads it again, gently, and whoever is about to rely on it
// says how fresh it has to be.
//
// [Source.Policy] is the configuration in force with the last known facts: good enough to
// show. [Source.Fresh] and [Source.FreshFor] are for decisions: what they return rests on
// facts of at most [MaxAge], or they return [ErrStale], and then nothing may be decided.
//
// Ages are counted by the database's clock, from before Slack was asked. They are never
// younger than the truth.
package directory
