package api

import (
	"errors"
	"strings"
)

// readTarget splits a request target as it came over the wire, which is to be
// /proxy/{upstream}{path}?{query}. Nothing is decoded, cleaned or put in another form: what
// is approved is what is sent, and what could not be sent as it stands is refused later on.
func readTarget(target string) (upstream, path, query string, err error) {
	rest, ours := strings.CutPrefix(target, frontPath)
	if !ours {
		return "", "", "", fail(codeBadRequest, "the request target must begin with "+frontPath+", without a scheme and host")
	}
	address, query, asked := strings.Cut(rest, "?")
	if asked && query == "" {
		return "", "", "", failItems(codeCallInvalid, []ProblemItem{item("#/query",
			errors.New("an empty query cannot be sent; leave the question mark out"))})
	}
	upstream, path, _ = strings.Cut(address, "/")
	return upstream, "/" + path, query, nil
}

// frontPlaces says where the front takes what the document of a submit has.
var frontPlaces = map[string]ProblemItem{
	"#/upstream":      {Parameter: "upstream"},
	"#/path":          {Parameter: "path"},
	"#/query":         {},
	"#/method":        {},
	"#/justification": {Header: "Countersign-Justification"},
	"#/callback":      {Header: "Countersign-Callback-Url"},
	"#/metadata":      {Header: "Countersign-Metadata"},
	"#/on_behalf_of":  {Header: "Countersign-On-Behalf-Of"},
	"#/supersedes":    {Header: "Countersign-Supersedes"},
}

// frontFailure names, in a failure about a submit, the places where a client of the front
// has put things.
func frontFailure(err error) error {
	f, ours := errors.AsType[*failure](err)
	if !ours {
		return err
	}
	for i, it := range f.errors {
		if it.Pointer == "" {
			continue
		}
		f.errors[i] = placed(it)
	}
	return f
}

func placed(it ProblemItem) ProblemItem {
	if name, ok := strings.CutPrefix(it.Pointer, headerPointer); ok {
		return ProblemItem{Header: name, Detail: it.Detail}
	}
	if strings.HasPrefix(it.Pointer, "#/callback/events") {
		return ProblemItem{Header: "Countersign-Callback-Events", Detail: it.Detail}
	}
	parts := strings.SplitN(it.Pointer, "/", 3)
	at := frontPlaces[strings.Join(parts[:min(2, len(parts))], "/")]
	at.Detail = it.Detail
	return at
}
