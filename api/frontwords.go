package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"countersign/approvals"
)

// ownPrefix begins the names of the fields that are for us. They are never passed on.
const ownPrefix = "Countersign-"

// ownFields are the words about a call that the front takes, each in a field of its own.
// Text is in UTF-8, of which every byte may be percent-encoded, as those above 0x7E must be
// for many clients; a percent sign is always written %25.
var ownFields = map[string]func(words *SubmitRequest, value string) error{
	"Countersign-Justification": func(w *SubmitRequest, v string) (err error) {
		w.Justification, err = decoded(v)
		return err
	},
	"Countersign-On-Behalf-Of": func(w *SubmitRequest, v string) (err error) {
		w.OnBehalfOf, err = decoded(v)
		return err
	},
	"Countersign-Supersedes": func(w *SubmitRequest, v string) error {
		w.Supersedes = v
		return nil
	},
	"Countersign-Metadata": func(w *SubmitRequest, v string) error {
		_, err := decodeStrict([]byte(v), &w.Metadata)
		return wordsOf(err)
	},
	"Countersign-Callback-Url": func(w *SubmitRequest, v string) error {
		ownCallback(w).URL = v
		return nil
	},
	"Countersign-Callback-Events": func(w *SubmitRequest, v string) error {
		for name := range strings.SplitSeq(v, ",") {
			ownCallback(w).Events = append(ownCallback(w).Events, approvals.EventType(strings.TrimSpace(name)))
		}
		if n := len(approvals.CallbackEvents()); len(w.Callback.Events) > n {
			return fmt.Errorf("names more than %d events", n)
		}
		return nil
	},
}

func ownCallback(w *SubmitRequest) *CallbackRequest {
	if w.Callback == nil {
		w.Callback = &CallbackRequest{}
	}
	return w.Callback
}

// readWords reads what the request says about its call. A field of ours that does not exist,
// comes twice, is empty or cannot be read is refused: the client relies on it.
func readWords(h http.Header) (SubmitRequest, error) {
	var words SubmitRequest
	var items []ProblemItem
	for name, values := range h {
		if !own(name) {
			continue
		}
		if err := readWord(&words, name, values); err != nil {
			items = append(items, ProblemItem{Header: cut(name, 64), Detail: err.Error()})
		}
	}
	if words.Callback != nil && words.Callback.URL == "" && len(items) == 0 {
		items = append(items, ProblemItem{Header: "Countersign-Callback-Events", Detail: "comes without Countersign-Callback-Url"})
	}
	if len(items) == 0 {
		return words, nil
	}
	slices.SortFunc(items, func(a, b ProblemItem) int { return strings.Compare(a.Header, b.Header) })
	return SubmitRequest{}, failItems(codeInvalidHeader, items[:min(len(items), maxItems)])
}

func readWord(words *SubmitRequest, name string, values []string) error {
	read, known := ownFields[name]
	switch {
	case !known:
		return unknownWord(name)
	case len(values) != 1:
		return errors.New("is given more than once")
	case strings.TrimSpace(values[0]) == "":
		return errors.New("is empty; leave it out")
	}
	return read(words, strings.TrimSpace(values[0]))
}

func unknownWord(name string) error {
	var known []string
	for k := range ownFields {
		known = append(known, k)
	}
	slices.Sort(known)
	if near := nearestFold(name, known); near != "" {
		return errors.New("is no field of ours (did you mean " + near + "?)")
	}
	return errors.New("is no field of ours; there are: " + strings.Join(known, ", "))
}

func nearestFold(name string, known []string) string {
	lower := make([]string, 0, len(known))
	for _, k := range known {
		lower = append(lower, strings.ToLower(k))
	}
	if i := slices.Index(lower, nearest(name, lower)); i >= 0 {
		return known[i]
	}
	return ""
}

// own reports whether a field is for us. An underscore counts as a hyphen: some servers on
// the way make no difference.
func own(name string) bool {
	return strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), strings.ToLower(ownPrefix))
}

func decoded(value string) (string, error) {
	text, err := url.PathUnescape(value)
	switch {
	case err != nil:
		return "", errors.New("has a percent sign that begins no escape; write it as %25")
	case !utf8.ValidString(text):
		return "", errors.New("is not valid UTF-8")
	}
	return text, nil
}

// wordsOf leaves of a failure what can be said of a header.
func wordsOf(err error) error {
	f, ours := errors.AsType[*failure](err)
	if !ours {
		return err
	}
	if len(f.errors) > 0 && f.errors[0].Pointer != "#" {
		return errors.New("must be a JSON object of strings: " + f.errors[0].Pointer + " " + f.errors[0].Detail)
	}
	return errors.New("must be a JSON object of strings: " + f.detail)
}
