package slack

import (
	"context"
	"errors"
	"fmt"

	slackgo "github.com/slack-go/slack"
)

// maxView bounds a view, in bytes of JSON.
const maxView = 250_000

// UpdateView replaces the contents of an open modal (views.update; no scope). hash is that
// of the view which somebody acted on; when another has taken its place since, the error is
// [Permanent] with the code hash_conflict. "" replaces whatever is there. A modal that was
// closed meanwhile is [Permanent] too, with the code not_found.
func (c *Client) UpdateView(ctx context.Context, viewID, hash string, view slackgo.ModalViewRequest) error {
	const method = "views.update"
	if viewID == "" {
		return c.failed(ctx, refusedHere(method, errors.New("no view")))
	}
	if err := LintModal(view); err != nil {
		return c.failed(ctx, refusedHere(method, fmt.Errorf("modal breaks block kit limits: %w", err)))
	}
	args := map[string]any{"view_id": viewID, "view": view}
	if hash != "" {
		args["hash"] = hash
	}
	return c.view(ctx, method, args, view)
}

// PublishHome replaces the home tab that a member sees of the app (views.publish; no
// scope). Doing it twice does no harm.
func (c *Client) PublishHome(ctx context.Context, user string, view slackgo.HomeTabViewRequest) error {
	const method = "views.publish"
	if err := c.checkID(ctx, method, user); err != nil {
		return err
	}
	return c.view(ctx, method, map[string]any{"user_id": user, "view": view}, view)
}

func (c *Client) view(ctx context.Context, method string, args map[string]any, view any) error {
	if n := len(encode(view)); n > maxView {
		return c.failed(ctx, refusedHere(method, fmt.Errorf("a view of %d bytes, at most %d are allowed", n, maxView)))
	}
	var got struct{ envelope }
	return c.askJSON(ctx, method, args, &got)
}
