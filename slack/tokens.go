package slack

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"
)

const (
	// renewBefore is how long before its end a token is replaced.
	renewBefore = 2 * time.Hour
	// renewLease is how long one process has to do that: longer than the call may take.
	renewLease = 30 * time.Second
	// renewFor bounds the whole of it, lookFor the wait for another process that is at it.
	renewFor = 20 * time.Second
	lookFor  = 100 * time.Millisecond
	// minLife is the least that a new token is good for. Less would mean to renew for ever.
	minLife = time.Minute
)

// SealedTokens is a pair of tokens as a [TokenStore] keeps it.
type SealedTokens struct {
	// Sealed is encrypted and authenticated; nil for none.
	Sealed []byte
	// Left is how long the access token is good for from now on; negative: it has expired.
	Left time.Duration
}

// TokenStore keeps the tokens of an app for all processes. It is an interface to keep this
// package below the database.
type TokenStore interface {
	// SlackTokens reads the present pair, without Sealed when there is none.
	SlackTokens(ctx context.Context, app string) (SealedTokens, error)
	// PutSlackTokens replaces the pair before, nil for none, and has it on disk when it returns
	// true. False: another pair has taken its place already.
	PutSlackTokens(ctx context.Context, app string, t SealedTokens, before []byte) (bool, error)
	// HoldLease makes a holder the only one to do a task, for a time; false: somebody else is.
	// LeaveLease ends that early.
	HoldLease(ctx context.Context, task, holder string, lease time.Duration) (bool, error)
	LeaveLease(ctx context.Context, task, holder string) error
}

// TokensConfig makes [Tokens]. All fields without a zero are required.
type TokensConfig struct {
	Store TokenStore
	// AppID, ClientID and ClientSecret are the app's. RefreshToken is the one to begin with:
	// it is used once, unless it is replaced by another, as after the app was installed anew.
	AppID, ClientID            string
	ClientSecret, RefreshToken Secret
	// APIURL, HTTP and Timeout are those of [Config].
	APIURL  string
	HTTP    Doer
	Timeout time.Duration
	// Now is the clock that the life of a token is counted on with.
	Now func() time.Time
	// Every is the pause between two looks of [Tokens.Run]. Zero: a minute.
	Every time.Duration
	// Logger: nil means that nothing is logged.
	Logger *slog.Logger
}

// Tokens are the bot tokens of an app whose tokens rotate: good for twelve hours each, and
// replaced two hours before that by means of a second token that works once. One process
// does it for all; both tokens are in the store, sealed, before either is used. Should the
// process die in between, the next uses the second token again, which Slack lets pass for
// a short while.
type Tokens struct {
	c      TokensConfig
	client *Client
	seal   sealer
	holder string

	renewing chan struct{} // holds a token while nobody in this process renews
	mu       sync.Mutex
	pair     pair
	sealed   []byte
	until    time.Time // when the access token expires; zero: nothing is known
}

// NewTokens returns the tokens of an app, or says what is wrong with c. It calls nothing.
func NewTokens(c TokensConfig) (*Tokens, error) {
	if c.Store == nil || c.AppID == "" || c.ClientID == "" || c.ClientSecret == "" || c.RefreshToken == "" || c.Now == nil {
		return nil, errors.New("rotating tokens need a store, an app id, a client id, a client secret, a refresh token and a clock")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Every = cmp.Or(c.Every, time.Minute)
	// The call that renews is made without a bot token, with the client's own secret.
	client, err := New(Config{Token: c.ClientSecret, APIURL: c.APIURL, HTTP: bare{c.HTTP}, Timeout: c.Timeout, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(c.ClientSecret, c.AppID)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	rand.Read(id[:])
	t := &Tokens{c: c, client: client, seal: seal, holder: "tokens_" + hex.EncodeToString(id[:]), renewing: make(chan struct{}, 1)}
	t.renewing <- struct{}{}
	return t, nil
}

// Token returns the present bot token and fits [Config.Tokens]: refused is one that Slack
// has called expired, whatever its time. It renews by itself what has expired.
func (t *Tokens) Token(ctx context.Context, refused Secret) (Secret, error) {
	if token, ok := t.good(refused, 0); ok {
		return token, nil
	}
	return t.renew(ctx, refused, 0)
}

// Run replaces tokens in time and takes over those that another process has replaced,
// until ctx ends.
func (t *Tokens) Run(ctx context.Context) {
	tick := time.NewTicker(t.c.Every)
	defer tick.Stop()
	for {
		if err := t.keep(ctx); err != nil && ctx.Err() == nil {
			t.c.Logger.ErrorContext(ctx, "cannot replace the bot token before it expires", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *Tokens) keep(ctx context.Context) error {
	if err := t.recall(ctx); err != nil {
		return err
	}
	if _, ok := t.good("", renewBefore); ok {
		return nil
	}
	_, err := t.renew(ctx, "", renewBefore)
	return err
}

// good returns the token in hand if it is not the refused one and lives for longer than
// that.
func (t *Tokens) good(refused Secret, left time.Duration) (Secret, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pair.Access, t.pair.Access != "" && t.pair.Access != refused && t.c.Now().Add(left).Before(t.until)
}

// renew gets a token that is good, from another process or from Slack.
func (t *Tokens) renew(ctx context.Context, refused Secret, left time.Duration) (Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, renewFor)
	defer cancel()
	select { // one at a time in this process
	case <-t.renewing:
		defer func() { t.renewing <- struct{}{} }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a new bot token: %w", ctx.Err())
	}
	for {
		if err := t.recall(ctx); err != nil {
			return "", err
		}
		if token, ok := t.good(refused, left); ok {
			return token, nil
		}
		mine, err := t.c.Store.HoldLease(ctx, t.task(), t.holder, renewLease)
		if err != nil {
			return "", err
		}
		if mine {
			return t.renewAlone(ctx, refused, left)
		}
		if err := pause(ctx, lookFor); err != nil {
			return "", fmt.Errorf("wait for another process to renew the bot token: %w", err)
		}
	}
}

func (t *Tokens) task() string { return "token:" + t.c.AppID }

// renewAlone is what one process does at a time.
func (t *Tokens) renewAlone(ctx context.Context, refused Secret, left time.Duration) (Secret, error) {
	defer t.leave(ctx)
	if err := t.recall(ctx); err != nil { // whoever had the task before may have done it
		return "", err
	}
	if token, ok := t.good(refused, left); ok {
		return token, nil
	}
	t.mu.Lock()
	before, sealed := t.pair, t.sealed
	t.mu.Unlock()
	// From here on to the store the old pair is worth little and the new one is nowhere else:
	// nothing breaks this off.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewFor)
	defer cancel()
	asked := t.c.Now()
	next, life, err := t.ask(ctx, before.Refresh)
	if err != nil {
		return "", err
	}
	return t.keepPair(ctx, next, life-t.c.Now().Sub(asked), sealed)
}

// keepPair tries until the pair is in the store: a pair that is lost needs an operator.
func (t *Tokens) keepPair(ctx context.Context, p pair, left time.Duration, before []byte) (Secret, error) {
	sealed, err := t.seal.close(p)
	if err != nil {
		return "", err
	}
	for {
		kept, err := t.c.Store.PutSlackTokens(ctx, t.c.AppID, SealedTokens{Sealed: sealed, Left: left}, before)
		switch {
		case err == nil && !kept:
			return "", errors.New("another process has renewed the bot token at the same time")
		case err == nil:
			t.adopt(p, sealed, left)
			t.c.Logger.InfoContext(ctx, "the bot token was replaced", slog.String("good_for", left.Truncate(time.Second).String()))
			return p.Access, nil
		}
		if late := pause(ctx, lookFor); late != nil {
			return "", fmt.Errorf("keep a new bot token: %w", err)
		}
	}
}

func (t *Tokens) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := t.c.Store.LeaveLease(ctx, t.task(), t.holder); err != nil {
		t.c.Logger.WarnContext(ctx, "others have to wait before they can renew the bot token", slog.Any("error", err))
	}
}

// recall takes over the pair that is kept. One that was made from another refresh token than
// the configured one, or sealed with another client secret, is of no use any more.
func (t *Tokens) recall(ctx context.Context) error {
	before := t.c.Now()
	kept, err := t.c.Store.SlackTokens(ctx, t.c.AppID)
	if err != nil {
		return fmt.Errorf("read the bot token: %w", err)
	}
	first := pair{Refresh: t.c.RefreshToken, Seed: seedOf(t.c.RefreshToken)}
	p, err := first, nil
	if kept.Sealed != nil {
		p, err = t.seal.open(kept.Sealed)
	}
	if err != nil || p.Seed != first.Seed {
		if err != nil {
			t.c.Logger.WarnContext(ctx, "the tokens in the database were sealed with another client secret and are replaced")
		}
		p, kept.Left = first, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pair, t.sealed, t.until = p, kept.Sealed, before.Add(kept.Left)
	return nil
}

func (t *Tokens) adopt(p pair, sealed []byte, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pair, t.sealed, t.until = p, sealed, t.c.Now().Add(left)
}

// ask trades the refresh token for a new pair (oauth.v2.access, grant_type refresh_token).
func (t *Tokens) ask(ctx context.Context, refresh Secret) (pair, time.Duration, error) {
	const method = "oauth.v2.access"
	var got struct {
		envelope
		AccessToken  Secret `json:"access_token"`
		RefreshToken Secret `json:"refresh_token"`
		ExpiresIn    int64  `json:"expires_in"`
		AppID        string `json:"app_id"`
	}
	t.client.wire.remember(refresh)
	_, err := t.client.ask(ctx, method, url.Values{
		"client_id": {t.c.ClientID}, "client_secret": {string(t.c.ClientSecret)},
		"grant_type": {"refresh_token"}, "refresh_token": {string(refresh)},
	}, &got)
	if err != nil {
		return pair{}, 0, err
	}
	life := time.Duration(min(got.ExpiresIn, 30*24*3600)) * time.Second
	if got.AccessToken == "" || got.RefreshToken == "" || life < minLife || (got.AppID != "" && got.AppID != t.c.AppID) {
		return pair{}, 0, t.client.notAnswered(ctx, method)
	}
	return pair{Access: got.AccessToken, Refresh: got.RefreshToken, Seed: seedOf(t.c.RefreshToken)}, life, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
