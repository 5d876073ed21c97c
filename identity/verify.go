package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// MaxToken bounds a token, in bytes.
	MaxToken = 8 << 10
	// MaxSubject bounds a subject, in bytes (OpenID Connect Core 1.0 section 2).
	MaxSubject = 255
	// Leeway is how far the clock of a provider may be off.
	Leeway = time.Minute
)

var (
	// ErrInvalid means that a token is nobody's, as far as we can tell. The text behind it
	// is for logs and says why.
	ErrInvalid = errors.New("the token is not valid")
	// ErrUnavailable means that the issuer could not be asked: whose token it is, is not
	// known. The same token may pass later.
	ErrUnavailable = errors.New("the identity provider cannot be asked")
)

// Identity is who a token says its holder is.
type Identity struct {
	// Issuer and Subject name them together: neither does alone.
	Issuer, Subject string
	// Email is an address that the issuer has verified; "" for none.
	Email string
	// Claims are those that are a text, or a list, as encoding/json reads them into any. They
	// are no more than fits into a token ([MaxToken]), and the issuer vouches for them in
	// whatever sense it likes: a name somebody has given themself is among them too.
	Claims map[string]any
}

// Login is a provider whose tokens are taken.
type Login struct {
	// Issuer is the provider's URL, exactly as its tokens have it.
	Issuer string
	// Audience is whom the tokens must be for.
	Audience string
}

// Doer makes one HTTP exchange. It must not follow redirects, and is trusted to reach only
// where it may.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Config makes a [Verifier].
type Config struct {
	// HTTP asks the providers. Required.
	HTTP Doer
	// Logins returns the providers that are configured now. Required.
	Logins func() []Login
	// Now is the clock. Required.
	Now func() time.Time
}

// Verifier verifies tokens. It keeps the providers' keys, and is safe for concurrent use.
type Verifier struct {
	c         Config
	mu        sync.Mutex
	providers map[string]*provider // by issuer
}

// New returns a verifier. It asks nobody yet. Every field of the Config is required.
func New(c Config) (*Verifier, error) {
	if c.HTTP == nil || c.Logins == nil || c.Now == nil {
		return nil, errors.New("identity.New: every field is required")
	}
	return &Verifier{c: c, providers: make(map[string]*provider)}, nil
}

// Verify returns whose token it is. Errors are [ErrInvalid] or [ErrUnavailable]. The first
// token of an issuer, and one that names a key not seen before, may take the time to ask the
// issuer for its keys, 5 s at most.
func (v *Verifier) Verify(ctx context.Context, raw string) (Identity, error) {
	h, err := peek(raw)
	if err != nil {
		return Identity{}, err
	}
	logins := v.c.Logins()
	var audiences []string
	for _, l := range logins {
		if l.Issuer == h.issuer {
			audiences = append(audiences, l.Audience)
		}
	}
	if len(audiences) == 0 {
		return Identity{}, invalid("its issuer is not configured")
	}
	key, err := v.provider(h.issuer, logins).key(ctx, h)
	if err != nil {
		return Identity{}, err
	}
	return v.check(ctx, raw, h, key, audiences)
}

// provider returns what is known of an issuer, and forgets those that are not configured
// any more.
func (v *Verifier) provider(issuer string, logins []Login) *provider {
	v.mu.Lock()
	defer v.mu.Unlock()
	for known := range v.providers {
		if !slices.ContainsFunc(logins, func(l Login) bool { return l.Issuer == known }) {
			delete(v.providers, known)
		}
	}
	p, known := v.providers[issuer]
	if !known {
		p = &provider{issuer: issuer, http: v.c.HTTP, now: v.c.Now}
		v.providers[issuer] = p
	}
	return p
}

// check verifies the signature with the one key that it may be from, and then every claim.
func (v *Verifier) check(ctx context.Context, raw string, h header, key publicKey, audiences []string) (Identity, error) {
	token, err := oidc.NewVerifier(h.issuer, key.set(), &oidc.Config{
		SupportedSigningAlgs: []string{h.alg},
		SkipClientIDCheck:    true, // below, for one of several
		SkipExpiryCheck:      true, // below, with less leeway
	}).Verify(ctx, raw)
	if err != nil {
		return Identity{}, invalid("%w", err)
	}
	var all claims
	if err := token.Claims(&all); err != nil {
		return Identity{}, invalid("%w", err)
	}
	if err := all.checkWho(h.issuer, audiences); err != nil {
		return Identity{}, err
	}
	if err := all.checkWhen(v.c.Now()); err != nil {
		return Identity{}, err
	}
	return Identity{Issuer: h.issuer, Subject: all.text("sub"), Email: all.email(), Claims: all.comparable()}, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
