package directory

import (
	"context"
	"time"

	"countersign/db"
	"countersign/slack"
)

// TokenStore keeps the rotating tokens of an app in the database, for [slack.NewTokens].
func TokenStore(store *db.Store) slack.TokenStore { return tokenStore{store} }

type tokenStore struct{ store *db.Store }

// SlackTokens fulfils [slack.TokenStore].
func (s tokenStore) SlackTokens(ctx context.Context, app string) (slack.SealedTokens, error) {
	t, _, err := s.store.SlackTokens(ctx, app)
	return slack.SealedTokens(t), err
}

// PutSlackTokens fulfils [slack.TokenStore].
func (s tokenStore) PutSlackTokens(ctx context.Context, app string, t slack.SealedTokens, before []byte) (bool, error) {
	return s.store.PutSlackTokens(ctx, app, db.SlackTokens(t), before)
}

// HoldLease fulfils [slack.TokenStore].
func (s tokenStore) HoldLease(ctx context.Context, task, holder string, lease time.Duration) (bool, error) {
	return s.store.HoldLease(ctx, task, holder, lease)
}

// LeaveLease fulfils [slack.TokenStore].
func (s tokenStore) LeaveLease(ctx context.Context, task, holder string) error {
	return s.store.LeaveLease(ctx, task, holder)
}
