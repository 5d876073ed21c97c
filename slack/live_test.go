//go:build live

package slack_test

import (
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"countersign/slack"
)

// workspaceClient is a client of a real workspace: SLACK_LIVE_TOKEN is a bot token of the app of
// `countersign slack manifest --history`, SLACK_LIVE_CHANNEL the id of a channel that the bot
// is in. What it posts stays there to be looked at. Run: go test -tags live -run Live -v ./slack
func workspaceClient(t *testing.T) (*slack.Client, string) {
	t.Helper()
	token, channel := os.Getenv("SLACK_LIVE_TOKEN"), os.Getenv("SLACK_LIVE_CHANNEL")
	require.NotEmpty(t, token, "set SLACK_LIVE_TOKEN")
	require.NotEmpty(t, channel, "set SLACK_LIVE_CHANNEL")
	client, err := slack.New(slack.Config{Token: slack.Secret(token), HTTP: http.DefaultClient})
	require.NoError(t, err)
	return client, channel
}

func TestLiveASecondTryOfAPostIsRecognised(t *testing.T) {
	t.Parallel()
	client, channel := workspaceClient(t)
	opts := slack.PostOptions{ClientMsgID: uuid.NewString()}
	first, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), opts)
	require.NoError(t, err)
	second, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), opts)
	var said *slack.Error
	switch {
	case errors.As(err, &said):
		t.Logf("Slack answered %s (%s) to the second try", said.Code, said.Class)
		require.Equal(t, slack.Ambiguous, said.Class)
	default:
		require.NoError(t, err)
		require.Equal(t, first, second, "the same message")
	}
}

func TestLiveAPostIsFoundByItsMetadata(t *testing.T) {
	t.Parallel()
	client, channel := workspaceClient(t)
	id := uuid.NewString()
	posted, err := client.Post(t.Context(), channel, slack.Saying("looked for by its metadata"), slack.PostOptions{
		Metadata: &slack.Metadata{EventType: "countersign_post", Payload: map[string]string{"outbox_id": id}},
	})
	require.NoError(t, err)
	since := time.Now().Add(-time.Minute) //nolint:forbidigo // Slack's messages carry real time
	require.Eventually(t, func() bool {
		found, ok, err := client.FindByMetadata(t.Context(), posted.Channel, "", since, "countersign_post", "outbox_id", id)
		return err == nil && ok && found == posted
	}, time.Minute, time.Second)
}

func TestLiveACardCanBecomeWhatTakesItsPlace(t *testing.T) {
	t.Parallel()
	client, channel := workspaceClient(t)
	posted, err := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	require.NoError(t, client.Update(t.Context(), posted, slack.Elsewhere()), "no block_mismatch")
}
