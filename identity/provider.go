package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// keysFor is how long keys count without asking again, so that one that the provider
	// has withdrawn is gone by then.
	keysFor = time.Hour
	// refreshEvery bounds how often a key that is not known makes us ask: anybody can name
	// one.
	refreshEvery = 30 * time.Second
	// retryEvery is the same after a failure.
	retryEvery = 5 * time.Second
	// askTimeout bounds asking a provider, both questions together.
	askTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
)

// provider is an issuer and the keys it has published.
type provider struct {
	issuer string
	http   Doer
	now    func() time.Time

	asking sync.Mutex // held while the provider is being asked

	mu     sync.Mutex // guards what follows, and is never held for long
	keys   []publicKey
	asked  time.Time // when it answered last; zero: never
	failed time.Time // when it did not answer last; zero: it did
	why    error
}

// key finds the key that a token says it is signed with. [ErrInvalid] when there is none,
// [ErrUnavailable] when the provider cannot be asked about it.
func (p *provider) key(ctx context.Context, h header) (publicKey, error) {
	if k, found := p.lookup(h); found {
		return k, nil
	}
	if err := p.refresh(ctx, h); err != nil {
		return publicKey{}, err
	}
	if k, found := p.lookup(h); found {
		return k, nil
	}
	return publicKey{}, invalid("its issuer has no such key")
}

// lookup finds a key among those that count. A token that names none is taken only where
// there is no choice.
func (p *provider) lookup(h header) (publicKey, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.fresh(keysFor) {
		return publicKey{}, false
	}
	var fit []publicKey
	for _, k := range p.keys {
		if k.alg == h.alg && (h.kid == "" || k.kid == h.kid) {
			fit = append(fit, k)
		}
	}
	if len(fit) != 1 {
		return publicKey{}, false
	}
	return fit[0], true
}

// fresh reports whether the provider has answered within some time.
func (p *provider) fresh(within time.Duration) bool {
	return !p.asked.IsZero() && p.now().Before(p.asked.Add(within))
}

// refresh asks for the keys, unless that was done a moment ago. Whoever comes while
// somebody is asking waits for the answer.
func (p *provider) refresh(ctx context.Context, h header) error {
	p.asking.Lock()
	defer p.asking.Unlock()
	if _, found := p.lookup(h); found {
		return nil // the one before was asking for the same
	}
	if done, err := p.recent(); done {
		return err
	}
	// Not cut short by a client that hangs up: the answer is for all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	keys, err := p.ask(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed, p.why = p.now(), fmt.Errorf("%w: %w", ErrUnavailable, err)
		return p.why
	}
	p.keys, p.asked, p.failed, p.why = keys, p.now(), time.Time{}, nil
	return nil
}

// recent reports whether the provider was asked so lately that it is not asked again, and
// what came of it.
func (p *provider) recent() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != nil && p.now().Before(p.failed.Add(retryEvery)) {
		return true, p.why
	}
	return p.fresh(refreshEvery), nil
}

// ask reads the provider's metadata (OpenID Connect Discovery 1.0 section 4) and then its
// keys.
func (p *provider) ask(ctx context.Context) ([]publicKey, error) {
	raw, err := p.get(ctx, strings.TrimSuffix(p.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, fmt.Errorf("read its metadata: %w", err)
	}
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if json.Unmarshal(raw, &metadata) != nil || metadata.JWKSURI == "" {
		return nil, errors.New("its metadata cannot be read")
	}
	if metadata.Issuer != p.issuer {
		return nil, errors.New("its metadata is that of another issuer")
	}
	raw, err = p.get(ctx, metadata.JWKSURI)
	if err != nil {
		return nil, fmt.Errorf("read its keys: %w", err)
	}
	keys, ok := parseKeys(raw)
	if !ok {
		return nil, errors.New("its keys cannot be read")
	}
	return keys, nil
}

func (p *provider) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is of no use
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(raw) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	return raw, err
}
