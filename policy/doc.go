// Package policy turns the configuration file into answers: who may submit, which rule a
// call meets, and what that rule demands of people, as an [approvals.Plan].
//
// # Reading
//
// [Load] and [Parse] decode YAML strictly and report every problem at once, each with its
// file, line, column and the line itself ([Problems]). What is written is what happens: an
// unknown field, a duplicate key, an anchor, a rule that can never match or a quorum nobody
// can meet is an error, never a silent default. A configuration either loads whole or not
// at all.
//
// Secrets stand in the file as references only, env:NAME or file:PATH. They are resolved
// while loading, held in [Secret], and appear in no error: values of fields that hold
// secrets are blanked in quoted lines too, because somebody will put one there.
//
// A person is one human being with all their accounts, each of which stands under one
// person only. Absences and hours are read and not judged: whether a file loads must not
// depend on the day. docs/policy.md is the reference of every field.
//
// # Deciding
//
// Rules are ordered, the first that matches wins, and no match means denied. [Config] is
// immutable and safe for concurrent use; a reload makes a new one.
//
// A path template is a sequence of segments: a literal, {name} for exactly one non-empty
// segment, or, at the end, {name...} for one or more. Paths are compared in their escaped
// form, split at "/", each segment unescaped for comparison, so that %2F never makes a
// second segment. A path that servers may read in two ways (dot segments, empty segments,
// broken escapes) meets no rule and is denied, so that no rule can be bypassed by spelling.
// Nor by a slash at the end: a rule that asks people or denies also holds for its paths with
// one, where a later rule would let them pass. Letters count as they are: /Customers is
// another path, even if the upstream thinks otherwise; such an upstream's last rule must not
// allow what earlier ones guard.
//
// Hours of work go into a plan as spans of time, worked out for as long as its ticket may
// wait: what the clock on the wall shows in the group's zone, whatever becomes of the zone
// or the file later.
package policy
