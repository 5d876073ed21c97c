package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlocksThatSlackRefusesAreRefusedWithAPointer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := func(n int) string { return strings.Repeat("é", n) }
	section := func(text string) string { return `{"type":"section","text":{"type":"mrkdwn","text":"` + text + `"}}` }
	button := func(fields string) string {
		return `{"type":"actions","elements":[{"type":"button","action_id":"a","text":{"type":"plain_text","text":"Go"}` + fields + `}]}`
	}
	rich := func(inner string) string { return `{"type":"rich_text","elements":[` + inner + `]}` }
	dividers := strings.Repeat(`{"type":"divider"},`, 50) + `{"type":"divider"}`
	confirm := func(title, text, yes string) string {
		return fmt.Sprintf(`,"confirm":{"title":{"type":"plain_text","text":"%s"},"text":{"type":"mrkdwn","text":"%s"},"confirm":{"type":"plain_text","text":"%s"},"deny":{"type":"plain_text","text":"No"}}`, title, text, yes)
	}
	field := `{"type":"plain_text","text":"f"}`
	for name, tc := range map[string]struct{ blocks, want string }{
		"unknown block":          {`{"type":"marquee"}`, "unsupported type: marquee [json-pointer:/blocks/0/type]"},
		"no type":                {`{"text":"x"}`, "missing required field: type [json-pointer:/blocks/0]"},
		"not an object":          {`"x"`, "must provide an object [json-pointer:/blocks/0]"},
		"unknown field":          {`{"type":"divider","colour":"red"}`, "invalid additional property: colour [json-pointer:/blocks/0]"},
		"51 blocks":              {dividers, "no more than 50 items allowed [json-pointer:/blocks]"},
		"section too long":       {section(long(3001)), "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"},
		"section empty":          {section(""), "must be more than 0 characters [json-pointer:/blocks/0/text/text]"},
		"section bare":           {`{"type":"section"}`, "missing required field: text [json-pointer:/blocks/0]"},
		"text as a string":       {`{"type":"section","text":"hi"}`, "must provide an object [json-pointer:/blocks/0/text]"},
		"field too long":         {`{"type":"section","fields":[{"type":"plain_text","text":"` + long(2001) + `"}]}`, "must be less than 2001 characters [json-pointer:/blocks/0/fields/0/text]"},
		"11 fields":              {`{"type":"section","fields":[` + strings.Repeat(field+",", 10) + field + `]}`, "no more than 10 items allowed [json-pointer:/blocks/0/fields]"},
		"header mrkdwn":          {`{"type":"header","text":{"type":"mrkdwn","text":"x"}}`, "unsupported type: mrkdwn [json-pointer:/blocks/0/text/type]"},
		"header too long":        {`{"type":"header","text":{"type":"plain_text","text":"` + long(151) + `"}}`, "must be less than 151 characters [json-pointer:/blocks/0/text/text]"},
		"emoji on mrkdwn":        {`{"type":"section","text":{"type":"mrkdwn","text":"x","emoji":true}}`, "invalid additional property: emoji [json-pointer:/blocks/0/text]"},
		"block_id too long":      {`{"type":"divider","block_id":"` + long(256) + `"}`, "must be less than 256 characters [json-pointer:/blocks/0/block_id]"},
		"same block_id":          {`{"type":"divider","block_id":"x"},{"type":"divider","block_id":"x"}`, "`block_id` \"x\" already exists [json-pointer:/blocks/1/block_id]"},
		"context of 11":          {`{"type":"context","elements":[` + strings.Repeat(field+",", 10) + field + `]}`, "no more than 10 items allowed [json-pointer:/blocks/0/elements]"},
		"actions empty":          {`{"type":"actions","elements":[]}`, "must provide at least 1 items [json-pointer:/blocks/0/elements]"},
		"same action_id":         {`{"type":"actions","elements":[{"type":"button","action_id":"a","text":` + field + `},{"type":"button","action_id":"a","text":` + field + `}]}`, "`action_id` \"a\" already exists [json-pointer:/blocks/0/elements/1/action_id]"},
		"button text too long":   {`{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"` + long(76) + `"}}]}`, "must be less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]"},
		"button style":           {button(`,"style":"loud"`), "must be a valid enum value [json-pointer:/blocks/0/elements/0/style]"},
		"button value too long":  {button(`,"value":"` + long(2001) + `"`), "must be less than 2001 characters [json-pointer:/blocks/0/elements/0/value]"},
		"button label too long":  {button(`,"accessibility_label":"` + long(76) + `"`), "must be less than 76 characters [json-pointer:/blocks/0/elements/0/accessibility_label]"},
		"button url":             {button(`,"url":"nonsense"`), "invalid url [json-pointer:/blocks/0/elements/0/url]"},
		"confirm title too long": {button(confirm(long(101), "t", "Yes")), "must be less than 101 characters [json-pointer:/blocks/0/elements/0/confirm/title/text]"},
		"confirm text too long":  {button(confirm("T", long(301), "Yes")), "must be less than 301 characters [json-pointer:/blocks/0/elements/0/confirm/text/text]"},
		"confirm yes too long":   {button(confirm("T", "t", long(31))), "must be less than 31 characters [json-pointer:/blocks/0/elements/0/confirm/confirm/text]"},
		"confirm incomplete":     {button(`,"confirm":{"title":{"type":"plain_text","text":"T"}}`), "missing required field: deny [json-pointer:/blocks/0/elements/0/confirm]"},
		"input in a message":     {`{"type":"input","label":` + field + `,"element":{"type":"plain_text_input"}}`, "unsupported type: input [json-pointer:/blocks/0/type]"},
		"text input in actions":  {`{"type":"actions","elements":[{"type":"plain_text_input"}]}`, "unsupported type: plain_text_input [json-pointer:/blocks/0/elements/0/type]"},
		"option value too long":  {`{"type":"actions","elements":[{"type":"checkboxes","options":[{"text":` + field + `,"value":"` + long(151) + `"}]}]}`, "must be less than 151 characters [json-pointer:/blocks/0/elements/0/options/0/value]"},
		"6 in an overflow":       {`{"type":"actions","elements":[{"type":"overflow","options":[` + strings.Repeat(`{"text":`+field+`,"value":"v"},`, 5) + `{"text":` + field + `,"value":"v"}]}]}`, "no more than 5 items allowed [json-pointer:/blocks/0/elements/0/options]"},
		"rich text part":         {rich(`{"type":"rich_text_poem","elements":[]}`), "unsupported type: rich_text_poem [json-pointer:/blocks/0/elements/0/type]"},
		"rich text element":      {rich(`{"type":"rich_text_section","elements":[{"type":"smell"}]}`), "unsupported type: smell [json-pointer:/blocks/0/elements/0/elements/0/type]"},
		"rich text empty":        {rich(`{"type":"rich_text_section","elements":[{"type":"text","text":""}]}`), "must be more than 0 characters [json-pointer:/blocks/0/elements/0/elements/0/text]"},
		"rich text style":        {rich(`{"type":"rich_text_section","elements":[{"type":"text","text":"x","style":{"blink":true}}]}`), "invalid additional property: blink [json-pointer:/blocks/0/elements/0/elements/0/style]"},
		"rich list style":        {rich(`{"type":"rich_text_list","style":"roman","elements":[{"type":"rich_text_section","elements":[]}]}`), "must be a valid enum value [json-pointer:/blocks/0/elements/0/style]"},
		"preformatted border":    {rich(`{"type":"rich_text_preformatted","border":2,"elements":[]}`), "must be less than or equal to 1 [json-pointer:/blocks/0/elements/0/border]"},
		"image without alt":      {`{"type":"image","image_url":"https://x.example/i.png"}`, "missing required field: alt_text [json-pointer:/blocks/0]"},
		"markdown too long":      {`{"type":"markdown","text":"` + long(12_001) + `"}`, "must be less than 12001 characters [json-pointer:/blocks/0/text]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := *b
			b.t = t
			out := b.refused("invalid_blocks", "chat.postMessage", "channel", channel, "text", "x", "blocks", "["+tc.blocks+"]")
			require.Contains(t, at(out, "response_metadata", "messages"), "[ERROR] "+tc.want)
			require.Contains(t, at(out, "errors"), tc.want)
		})
	}
}

func TestBlocksAtTheirLimitsAreAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text := func(n int) string { return strings.Repeat("é", n) }
	for name, blocks := range map[string]string{
		"pending card":     fixture(t, "pending"),
		"final card":       fixture(t, "final"),
		"escalation":       fixture(t, "escalation"),
		"50 blocks":        "[" + strings.Repeat(`{"type":"divider"},`, 49) + `{"type":"divider"}]`,
		"section of 3000":  `[{"type":"section","text":{"type":"mrkdwn","text":"` + text(3000) + `"}}]`,
		"header of 150":    `[{"type":"header","text":{"type":"plain_text","text":"` + text(150) + `"}}]`,
		"markdown":         `[{"type":"markdown","text":"# hi"}]`,
		"list":             `[{"type":"rich_text","elements":[{"type":"rich_text_list","style":"ordered","indent":1,"elements":[{"type":"rich_text_section","elements":[{"type":"user","user_id":"U1"},{"type":"broadcast","range":"here"},{"type":"emoji","name":"x"},{"type":"date","timestamp":1,"format":"{date}","fallback":"f"},{"type":"link","url":"https://x.example"},{"type":"usergroup","usergroup_id":"S1"},{"type":"channel","channel_id":"C1"}]}]}]}]`,
		"menus":            `[{"type":"actions","elements":[{"type":"static_select","action_id":"a","options":[{"text":{"type":"plain_text","text":"x"},"value":"x"}]},{"type":"users_select","action_id":"b"},{"type":"radio_buttons","action_id":"c","options":[{"text":{"type":"mrkdwn","text":"x"},"value":"x"}]}]}]`,
		"no blocks at all": `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := *b
			b.t = t
			b.post("text", "x", "blocks", blocks)
		})
	}
}

func TestTooMuchTextInAllBlocksTogetherIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := `{"type":"section","text":{"type":"mrkdwn","text":"` + strings.Repeat("a", 2900) + `"}}`
	b.refused("msg_blocks_too_long", "chat.postMessage", "channel", channel, "text", "x", "blocks", "["+strings.Repeat(one+",", 3)+one+"]")
}

func TestBlocksThatAreNoArrayAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, blocks := range []string{`{"type":"divider"}`, `[{`, `"[]"`} {
		b.refused("invalid_blocks_format", "chat.postMessage", "channel", channel, "text", "x", "blocks", blocks)
	}
}

func TestViewsThatSlackRefusesAreRefusedWithAPointer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	view := func(fields string) string {
		return `{"type":"modal","title":{"type":"plain_text","text":"T"},` + fields + `}`
	}
	label := `{"type":"plain_text","text":"L"}`
	input := func(inner string) string {
		return view(`"submit":` + label + `,"blocks":[{"type":"input","block_id":"r","label":` + label + `,"element":{"type":"plain_text_input","action_id":"v"` + inner + `}}]`)
	}
	for name, tc := range map[string]struct{ view, want string }{
		"no title":             {`{"type":"modal","blocks":[]}`, "missing required field: title [json-pointer:/view]"},
		"null blocks":          {view(`"blocks":null`), "missing required field: blocks [json-pointer:/view]"},
		"title too long":       {`{"type":"modal","title":{"type":"plain_text","text":"` + strings.Repeat("t", 25) + `"},"blocks":[]}`, "must be less than 25 characters [json-pointer:/view/title/text]"},
		"submit too long":      {view(`"submit":{"type":"plain_text","text":"` + strings.Repeat("t", 25) + `"},"blocks":[]`), "must be less than 25 characters [json-pointer:/view/submit/text]"},
		"close too long":       {view(`"close":{"type":"plain_text","text":"` + strings.Repeat("t", 25) + `"},"blocks":[]`), "must be less than 25 characters [json-pointer:/view/close/text]"},
		"private_metadata":     {view(`"private_metadata":"` + strings.Repeat("m", 3001) + `","blocks":[]`), "must be less than 3001 characters [json-pointer:/view/private_metadata]"},
		"101 blocks":           {view(`"blocks":[` + strings.Repeat(`{"type":"divider"},`, 100) + `{"type":"divider"}]`), "no more than 100 items allowed [json-pointer:/view/blocks]"},
		"input without submit": {view(`"blocks":[{"type":"input","label":` + label + `,"element":{"type":"plain_text_input"}}]`), "must define `submit` to use an `input` block in modals [json-pointer:/view/blocks/0/input]"},
		"min_length":           {input(`,"min_length":3001`), "must be less than or equal to 3000 [json-pointer:/view/blocks/0/element/min_length]"},
		"placeholder":          {input(`,"placeholder":{"type":"plain_text","text":"` + strings.Repeat("p", 151) + `"}`), "must be less than 151 characters [json-pointer:/view/blocks/0/element/placeholder/text]"},
		"markdown in a modal":  {view(`"blocks":[{"type":"markdown","text":"x"}]`), "unsupported type: markdown [json-pointer:/view/blocks/0/type]"},
		"unknown field":        {view(`"submit_disabled":true,"blocks":[]`), "invalid additional property: submit_disabled [json-pointer:/view]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := *b
			b.t = t
			out := b.refused("invalid_arguments", "views.open", "trigger_id", "1.2.x", "view", tc.view)
			require.Contains(t, at(out, "response_metadata", "messages"), "[ERROR] "+tc.want)
		})
	}
}

func TestViewAbove250kBIsTooLarge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	block := `{"type":"section","text":{"type":"mrkdwn","text":"` + strings.Repeat("a", 2990) + `"}}`
	view := `{"type":"modal","title":{"type":"plain_text","text":"T"},"blocks":[` + strings.Repeat(block+",", 90) + block + `]}`
	b.refused("view_too_large", "views.open", "trigger_id", "1.2.x", "view", view)
}

func TestMetadataMustHaveSlacksShape(t *testing.T) {
	t.Parallel()
	b := setup(t)
	post := []string{"channel", channel, "text", "x", "metadata"}
	b.refused("invalid_metadata_format", "chat.postMessage", append(post, `{`)...)
	b.refused("invalid_metadata_schema", "chat.postMessage", append(post, `{"event_type":"t"}`)...)
	b.refused("invalid_metadata_schema", "chat.postMessage", append(post, `{"event_type":"t","event_payload":"p"}`)...)
	b.ok("chat.postMessage", append(post, `{"event_type":"t","event_payload":{"outbox_id":"o1"}}`)...)
}
