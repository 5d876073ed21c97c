// Package identity says who holds a token of an OpenID Connect provider: it verifies the
// JWTs with which people come to the API, against the keys that their issuer publishes.
//
// A token passes when one of the configured logins names its issuer, exactly, and its
// audience; when it is signed, by RS256, ES256 or EdDSA, with a key of that issuer; and when
// it is valid now, give or take [Leeway]. Everything else is [ErrInvalid]. A provider that
// cannot be asked for its keys is [ErrUnavailable]: nobody passes on the word of keys that
// are too old.
//
// Who in our configuration holds an [Identity] is not for this package to say.
package identity
