package emulator

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Limits of Block Kit, in characters or items.
const (
	maxMessageBlocks = 50
	maxViewBlocks    = 100
	maxViewBytes     = 250_000
	// maxBlocksText makes msg_blocks_too_long. Slack documents no threshold; messages of
	// about 11,300 to 13,200 characters have been seen refused, so this is the cautious end.
	maxBlocksText = 11_000
)

// Composition objects.
var (
	plainText = func(high int) rule { return textObject([]string{"plain_text"}, 1, high) }
	anyText   = func(high int) rule { return textObject([]string{"plain_text", "mrkdwn"}, 1, high) }

	confirmation = shape{
		fields: map[string]rule{
			"title": plainText(100), "text": anyText(300), "confirm": plainText(30), "deny": plainText(30),
			"style": oneOf("primary", "danger"),
		},
		required: []string{"title", "text", "confirm", "deny"},
	}.object
	option = shape{
		fields:   map[string]rule{"text": anyText(75), "value": text(1, 150), "description": anyText(75), "url": webURL},
		required: []string{"text", "value"},
	}.object
	optionGroup = shape{
		fields:   map[string]rule{"label": plainText(75), "options": list(1, 100, option)},
		required: []string{"label", "options"},
	}.object
)

func textObject(kinds []string, low, high int) rule {
	shapes := map[string]shape{}
	for _, kind := range kinds {
		fields := map[string]rule{"type": anything, "text": shownText(low, high)}
		fields[map[string]string{"plain_text": "emoji", "mrkdwn": "verbatim"}[kind]] = flag
		shapes[kind] = shape{fields: fields, required: []string{"text"}}
	}
	return typed(shapes)
}

// element makes the shape of an interactive element; action_id and focus_on_load are common.
func element(required []string, fields map[string]rule) shape {
	all := map[string]rule{"type": anything, "action_id": text(1, 255)}
	maps.Copy(all, fields)
	return shape{fields: all, required: required}
}

// focus refuses a second element that wants the focus.
func focus(c *checker, path string, v any) {
	flag(c, path, v)
	if v != true {
		return
	}
	if c.focused {
		c.fail(path, "only one element can have `focus_on_load` set to true")
	}
	c.focused = true
}

// menu makes the shape of an element that is chosen from and begins with initial.
func menu(initial string, of rule, more map[string]rule) shape {
	fields := map[string]rule{"placeholder": plainText(150), "confirm": confirmation, "focus_on_load": focus, initial: of}
	maps.Copy(fields, more)
	return element(nil, fields)
}

func conversationMenu(name string, check rule) map[string]rule {
	return map[string]rule{"default_to_current_conversation": flag, "filter": anything, name: check}
}

func textField() shape {
	return element(nil, map[string]rule{
		"placeholder": plainText(150), "initial_value": text(1, 3000), "dispatch_action_config": anything, "focus_on_load": focus,
	})
}

// dateText and timeText allow what pickers hold.
var dateText, timeText = matching(holdings["datepicker"].form), matching(holdings["timepicker"].form)

func matching(form *regexp.Regexp) rule {
	return func(c *checker, path string, v any) {
		if s, ok := v.(string); !ok || !form.MatchString(s) {
			c.fail(path, "must be a valid value")
		}
	}
}

// Elements by where they may stand.
var (
	menus = []string{
		"checkboxes", "radio_buttons", "static_select", "multi_static_select", "users_select", "multi_users_select",
		"channels_select", "multi_channels_select", "conversations_select", "multi_conversations_select", "datepicker", "timepicker",
	}
	inActions = append([]string{"button", "overflow", "datetimepicker"}, singles()...)
	inSection = append([]string{"button", "overflow", "image"}, menus...)
	inInput   = append([]string{"plain_text_input", "email_text_input", "url_text_input", "number_input", "datetimepicker"}, menus...)
)

// singles are the menus an actions block may hold: those that hold one thing, and checkboxes.
func singles() []string {
	return slices.DeleteFunc(slices.Clone(menus), func(name string) bool { return strings.HasPrefix(name, "multi_") })
}

var elements = map[string]shape{
	"button": element([]string{"text"}, map[string]rule{
		"text": plainText(75), "value": text(0, 2000), "url": webURL, "style": oneOf("primary", "danger"),
		"confirm": confirmation, "accessibility_label": text(1, 75),
	}),
	"plain_text_input": element(nil, map[string]rule{
		"placeholder": plainText(150), "initial_value": text(0, 3000), "multiline": flag,
		"min_length": number(0, 3000), "max_length": number(1, 3000), "dispatch_action_config": anything, "focus_on_load": focus,
	}),
	"checkboxes": element([]string{"options"}, map[string]rule{
		"options": list(1, 10, option), "initial_options": list(1, 10, option), "confirm": confirmation, "focus_on_load": focus,
	}),
	"radio_buttons": element([]string{"options"}, map[string]rule{
		"options": list(1, 10, option), "initial_option": option, "confirm": confirmation, "focus_on_load": focus,
	}),
	"static_select": element(nil, map[string]rule{
		"placeholder": plainText(150), "options": list(1, 100, option), "option_groups": list(1, 100, optionGroup),
		"initial_option": option, "confirm": confirmation, "focus_on_load": focus,
	}),
	"multi_static_select": menu("initial_options", list(1, 100, option), map[string]rule{
		"options": list(1, 100, option), "option_groups": list(1, 100, optionGroup), "max_selected_items": number(1, 100),
	}),
	"multi_users_select":         menu("initial_users", list(0, 100, text(1, 255)), map[string]rule{"max_selected_items": number(1, 100)}),
	"channels_select":            menu("initial_channel", text(1, 255), map[string]rule{"response_url_enabled": flag}),
	"multi_channels_select":      menu("initial_channels", list(0, 100, text(1, 255)), map[string]rule{"max_selected_items": number(1, 100)}),
	"conversations_select":       menu("initial_conversation", text(1, 255), conversationMenu("response_url_enabled", flag)),
	"multi_conversations_select": menu("initial_conversations", list(0, 100, text(1, 255)), conversationMenu("max_selected_items", number(1, 100))),
	"datepicker":                 menu("initial_date", dateText, nil),
	"timepicker":                 menu("initial_time", timeText, map[string]rule{"timezone": text(1, 255)}),
	"datetimepicker":             element(nil, map[string]rule{"initial_date_time": number(1e9, 1e10-1), "confirm": confirmation, "focus_on_load": focus}),
	"email_text_input":           textField(),
	"url_text_input":             textField(),
	"number_input": element([]string{"is_decimal_allowed"}, map[string]rule{
		"is_decimal_allowed": flag, "placeholder": plainText(150), "initial_value": text(1, 255), "min_value": text(1, 255),
		"max_value": text(1, 255), "dispatch_action_config": anything, "focus_on_load": focus,
	}),
	"overflow":     element([]string{"options"}, map[string]rule{"options": list(1, 5, option), "confirm": confirmation}),
	"users_select": element(nil, map[string]rule{"placeholder": plainText(150), "initial_user": text(1, 255), "confirm": confirmation, "focus_on_load": focus}),
	"image":        {fields: map[string]rule{"type": anything, "image_url": webURL, "alt_text": text(1, 2000)}, required: []string{"image_url", "alt_text"}},
}

// pick returns the named entries of elements.
func pick(names ...string) map[string]shape {
	picked := map[string]shape{}
	for _, name := range names {
		picked[name] = elements[name]
	}
	return picked
}

// contextShapes are what a context block may hold: text and small images.
func contextElement() rule {
	images, texts := typed(pick("image")), anyText(3000)
	return func(c *checker, path string, v any) {
		if o, ok := v.(object); ok && o["type"] == "image" {
			images(c, path, v)
			return
		}
		texts(c, path, v)
	}
}

// block makes the shape of a block; type and block_id are common.
func block(required []string, fields map[string]rule, also func(*checker, string, object)) shape {
	all := map[string]rule{"type": anything, "block_id": text(1, 255)}
	maps.Copy(all, fields)
	return shape{fields: all, required: required, also: also}
}

var blockShapes = map[string]shape{
	"header":  block([]string{"text"}, map[string]rule{"text": plainText(150)}, nil),
	"divider": block(nil, nil, nil),
	"section": block(nil, map[string]rule{
		"text": anyText(3000), "fields": list(1, 10, anyText(2000)), "expand": flag,
		"accessory": typed(pick(inSection...)),
	}, textOrFields),
	"context": block([]string{"elements"}, map[string]rule{"elements": list(1, 10, contextElement())}, nil),
	"actions": block([]string{"elements"}, map[string]rule{
		"elements": list(1, 25, typed(pick(inActions...))),
	}, uniqueActionIDs),
	"input": block([]string{"label", "element"}, map[string]rule{
		"label": plainText(2000), "hint": plainText(2000), "optional": flag, "dispatch_action": flag,
		"element": typed(pick(inInput...)),
	}, nil),
	"image": block([]string{"image_url", "alt_text"}, map[string]rule{
		"image_url": webURL, "alt_text": text(1, 2000), "title": plainText(2000),
	}, nil),
	"markdown":  block([]string{"text"}, map[string]rule{"text": shownText(1, 12_000)}, nil),
	"rich_text": block([]string{"elements"}, map[string]rule{"elements": list(1, 1000, typed(richTextParts))}, nil),
}

// surfaces says where a block that cannot stand everywhere may stand. Slack has since opened
// input blocks to messages; they stay refused there because a card must not collect input.
var surfaces = map[string][]string{
	"input":    {"modal", "home"},
	"markdown": {"message"},
}

func textOrFields(c *checker, path string, o object) {
	if o["text"] == nil && o["fields"] == nil {
		c.fail(path, "missing required field: text")
	}
}

func uniqueActionIDs(c *checker, path string, o object) {
	seen := map[string]bool{}
	items, _ := o["elements"].([]any)
	for i, it := range items {
		el, _ := it.(object)
		id, _ := el["action_id"].(string)
		if id != "" && seen[id] {
			c.fail(pathOf(path, "elements", i)+"/action_id", "`action_id` \"%s\" already exists", id)
		}
		seen[id] = true
	}
}
