package slack_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack"
)

// codes are Slack's words by what they mean for a post and for everything else.
var codes = map[[2]slack.Class]string{
	{slack.Permanent, slack.Permanent}: `channel_not_found not_in_channel is_archived is_inactive restricted_action restricted_action_read_only_channel
		restricted_action_thread_only_channel restricted_action_non_threadable_channel restricted_action_thread_locked no_permission user_not_found
		users_not_found messages_tab_disabled cant_update_message message_not_found edit_window_closed invalid_blocks invalid_blocks_format msg_too_long
		msg_blocks_too_long metadata_too_large no_text invalid_arguments ekm_access_denied expired_trigger_id exchanged_trigger_id invalid_trigger_id
		hash_conflict not_found view_too_large cannot_dm_bot user_disabled block_mismatch thread_not_found no_such_subteam unheard_of`,
	{slack.App, slack.App}: `invalid_auth not_authed account_inactive token_revoked token_expired missing_scope not_allowed_token_type
		team_access_not_granted org_login_required accesslimited enterprise_is_restricted invalid_refresh_token invalid_client_id bad_client_secret
		token_rotation_not_enabled invalid_grant`,
	{slack.RateLimited, slack.RateLimited}: `ratelimited rate_limited message_limit_exceeded`,
	{slack.Ambiguous, slack.Retryable}: `internal_error fatal_error service_unavailable request_timeout duplicate_message duplicate_message_not_found
		duplicate_channel_not_found`,
	{slack.Retryable, slack.Retryable}: `team_added_to_org update_failed external_channel_migrating`,
}

func TestEveryWordOfSlacksHasItsClass(t *testing.T) {
	t.Parallel()
	for classes, words := range codes {
		for _, word := range strings.Fields(words) {
			t.Run(word, func(t *testing.T) {
				t.Parallel()
				client := answering(t, saying(http.StatusOK, `{"ok":false,"error":"`+word+`"}`))
				_, posted := client.Post(t.Context(), channel, slack.Card(pendingView(t, nil)), slack.PostOptions{})
				_, asked := client.UserInfo(t.Context(), "U0ANA")
				for i, err := range []error{posted, asked} {
					var e *slack.Error
					require.ErrorAs(t, err, &e)
					require.Equal(t, classes[i], e.Class, e.Method)
					require.Equal(t, word, e.Code)
				}
			})
		}
	}
}

func TestWhatIsNotSaidIsNotMadeUp(t *testing.T) {
	t.Parallel()
	yes := answering(t, saying(http.StatusOK, `{"ok":true}`))
	view := pendingView(t, nil)
	for method, f := range methods(view) {
		if method == "views.update" || method == "views.publish" || method == "conversations.list" {
			continue // a yes is all that they want
		}
		err := f(t.Context(), yes)
		var e *slack.Error
		require.ErrorAs(t, err, &e, method)
		require.Equal(t, "empty_answer", e.Code, method)
		require.Equal(t, slack.Retryable, e.Class, method)
	}
}

func TestSomebodyElseIsNoAnswer(t *testing.T) {
	t.Parallel()
	client := answering(t, saying(http.StatusOK, `{"ok":true,"user":{"id":"U0EVE","profile":{"email":"eve@example.com"}}}`))
	_, err := client.UserInfo(t.Context(), "U0ANA")
	require.Error(t, err)
	_, err = client.UserByEmail(t.Context(), "ana@example.com")
	require.Error(t, err)
}

func TestWhatIsNoIDIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	client := answering(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for _, id := range []string{"", "U 1", "U1&x=y", "../U1", strings.Repeat("U", 65)} {
		_, user := client.UserInfo(t.Context(), id)
		_, conversation := client.Conversation(t.Context(), id)
		_, direct := client.OpenDirect(t.Context(), id)
		home := client.PublishHome(t.Context(), id, slack.HomeView{})
		for _, err := range []error{user, conversation, direct, home} {
			var e *slack.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "refused_here", e.Code)
		}
	}
}
