package emulator

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

var inlineStyle = shape{fields: map[string]rule{
	"bold": flag, "italic": flag, "strike": flag, "code": flag, "underline": flag,
	"highlight": flag, "client_highlight": flag, "unlink": flag,
}}.object

// inline makes the shape of a rich text element; style is common.
func inline(required []string, fields map[string]rule) shape {
	all := map[string]rule{"type": anything, "style": inlineStyle}
	for name, check := range fields {
		all[name] = check
	}
	return shape{fields: all, required: required}
}

var inlineShapes = map[string]shape{
	"text":      inline([]string{"text"}, map[string]rule{"text": shownText(1, 100_000)}),
	"link":      inline([]string{"url"}, map[string]rule{"url": webURL, "text": shownText(0, 3000), "unsafe": flag}),
	"user":      inline([]string{"user_id"}, map[string]rule{"user_id": text(1, 255)}),
	"usergroup": inline([]string{"usergroup_id"}, map[string]rule{"usergroup_id": text(1, 255)}),
	"channel":   inline([]string{"channel_id"}, map[string]rule{"channel_id": text(1, 255)}),
	"emoji":     inline([]string{"name"}, map[string]rule{"name": text(1, 255), "unicode": text(1, 255), "skin_tone": number(1, 6)}),
	"date": inline([]string{"timestamp", "format"}, map[string]rule{
		"timestamp": number(0, 1<<53), "format": text(1, 255), "url": webURL, "fallback": text(1, 3000),
	}),
	"broadcast": inline([]string{"range"}, map[string]rule{"range": oneOf("here", "channel", "everyone")}),
}

var inlines = list(0, 10_000, typed(inlineShapes))

var richTextSection = shape{
	fields:   map[string]rule{"type": anything, "elements": inlines},
	required: []string{"elements"},
}

var richTextParts = map[string]shape{
	"rich_text_section":      richTextSection,
	"rich_text_preformatted": {fields: map[string]rule{"type": anything, "elements": inlines, "border": number(0, 1)}, required: []string{"elements"}},
	"rich_text_quote":        {fields: map[string]rule{"type": anything, "elements": inlines, "border": number(0, 1)}, required: []string{"elements"}},
	"rich_text_list": {
		fields: map[string]rule{
			"type": anything, "style": oneOf("bullet", "ordered"), "indent": number(0, 8), "offset": number(0, 1<<31), "border": number(0, 1),
			"elements": list(1, 1000, typed(map[string]shape{"rich_text_section": richTextSection})),
		},
		required: []string{"elements", "style"},
	},
}

func pathOf(base, field string, i int) string { return fmt.Sprintf("%s/%s/%d", base, field, i) }

// checkBlocks checks the blocks of one surface; path is "/blocks" or "/view/blocks".
func (c *checker) checkBlocks(path string, blocks any, high int) {
	c.blockIDs = map[string]bool{}
	one := typed(blockShapes)
	list(0, high, func(c *checker, path string, v any) {
		one(c, path, v)
		if o, ok := v.(object); ok {
			c.checkPlace(path, o)
		}
	})(c, path, blocks)
}

// checkPlace checks what depends on the other blocks and on the surface.
func (c *checker) checkPlace(path string, o object) {
	kind, _ := o["type"].(string)
	if allowed := surfaces[kind]; allowed != nil && !slices.Contains(allowed, c.surface) {
		c.fail(path+"/type", "unsupported type: %s", kind)
	}
	id, _ := o["block_id"].(string)
	if id != "" && c.blockIDs[id] {
		c.fail(path+"/block_id", "`block_id` \"%s\" already exists", id)
	}
	c.blockIDs[id] = true
}

// checkMessageBlocks returns the blocks of a message, or Slack's error for them.
func checkMessageBlocks(v any) ([]any, error) {
	blocks, ok := v.([]any)
	if !ok {
		return nil, fail("invalid_blocks_format")
	}
	c := checker{surface: "message"}
	c.checkBlocks("/blocks", v, maxMessageBlocks)
	if len(c.problems) > 0 {
		return nil, invalid("invalid_blocks", c.problems)
	}
	if c.runes > maxBlocksText {
		return nil, fail("msg_blocks_too_long")
	}
	return blocks, nil
}

// viewShapes are what views may hold, by surface.
var viewShapes = map[string]shape{
	"modal": {
		fields: map[string]rule{
			"type": oneOf("modal"), "title": plainText(24), "submit": plainText(24), "close": plainText(24), "blocks": anything,
			"private_metadata": text(0, 3000), "callback_id": text(0, 255), "external_id": text(0, 255),
			"clear_on_close": flag, "notify_on_close": flag,
		},
		required: []string{"type", "title", "blocks"},
		also:     checkViewBlocks,
	},
	"home": {
		fields: map[string]rule{
			"type": oneOf("home"), "blocks": anything, "private_metadata": text(0, 3000), "callback_id": text(0, 255), "external_id": text(0, 255),
		},
		required: []string{"type", "blocks"},
		also:     checkViewBlocks,
	},
}

func checkViewBlocks(c *checker, path string, o object) {
	if o["blocks"] == nil {
		return
	}
	c.checkBlocks(path+"/blocks", o["blocks"], maxViewBlocks)
	blocks, _ := o["blocks"].([]any)
	for i, b := range blocks {
		if blk, ok := b.(object); ok && blk["type"] == "input" && o["submit"] == nil && c.surface == "modal" {
			c.fail(pathOf(path, "blocks", i)+"/input", "must define `submit` to use an `input` block in modals")
		}
	}
}

// checkView returns a modal or Home tab as an object, or Slack's error for it; size is its
// JSON's length.
func checkView(v any, size int, surface string) (object, error) {
	if size > maxViewBytes {
		return nil, fail("view_too_large")
	}
	c := checker{surface: surface}
	viewShapes[surface].object(&c, "/view", v)
	if len(c.problems) > 0 {
		return nil, invalid("invalid_arguments", c.problems)
	}
	return v.(object), nil //nolint:forcetypeassert // the shape has just refused anything else
}

// checkMetadata checks the shape of a message's metadata and its size, which Slack limits
// without saying where; 16 kB is generous.
func checkMetadata(v any) error {
	o, ok := v.(object)
	if !ok {
		return fail("invalid_metadata_format")
	}
	c := checker{}
	shape{
		fields:   map[string]rule{"event_type": text(1, 255), "event_payload": anything, "entities": anything},
		required: []string{"event_type", "event_payload"},
	}.object(&c, "/metadata", o)
	if _, ok := o["event_payload"].(object); !ok && o["event_payload"] != nil {
		c.fail("/metadata/event_payload", "must provide an object")
	}
	switch {
	case len(c.problems) > 0:
		return invalid("invalid_metadata_schema", c.problems)
	case utf8.RuneCountInString(encode(o)) > 16_000:
		return fail("metadata_too_large")
	}
	return nil
}
