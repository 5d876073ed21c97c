// Package egress makes every call that leaves Countersign, and is the only place that builds an outbound http.Client.
//
// There are three ways out:
//
//   - [Executor] makes an approved call to a configured upstream, once, and says honestly what became of it: answered,
//     provably not sent, or unknown.
//   - [Deliverer] makes one signed callback attempt to a URL that a caller chose, or asks there whether callbacks are
//     wanted.
//   - [NewClient] and [SlackClient] give other packages a client that cannot be steered elsewhere.
//
// All three share one idea of a safe destination (see [Policy]): the decision is taken on the concrete address, after
// name resolution, at every connection attempt, so neither a rebinding name nor an odd spelling gets round it. None of
// them follows a redirect, asks a proxy named in the environment, or decompresses an answer. Behind a proxy that the
// operator has configured the decision is the same, and it is the address decided on that the proxy is asked for.
package egress
