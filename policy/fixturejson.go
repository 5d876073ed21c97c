package policy

import (
	"encoding/json"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// maxNesting bounds how deep a body nests.
const maxNesting = 64

// json decodes any value into the JSON that says the same, with its fields in the order
// in which they stand.
func (d *decoder) json(dst *[]byte) field {
	return func(n ast.Node) {
		if out, ok := d.asJSON(nil, n, 0); ok {
			*dst = out
		}
	}
}

func (d *decoder) asJSON(out []byte, n ast.Node, depth int) ([]byte, bool) {
	if depth > maxNesting {
		d.problem(d.at(n), "", "the body nests deeper than %d", maxNesting)
		return nil, false
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.objectJSON(out, n, depth)
	case *ast.SequenceNode:
		return d.arrayJSON(out, n, depth)
	case *ast.StringNode:
		if plainScalar(n.Token) && json.Valid([]byte(n.Value)) { // a number too large for the YAML decoder
			return append(out, n.Value...), true
		}
		return textJSON(out, n.Value), true
	case *ast.LiteralNode:
		return textJSON(out, n.Value.Value), true
	case *ast.IntegerNode, *ast.FloatNode:
		return d.numberJSON(out, n)
	case *ast.BoolNode:
		return strconv.AppendBool(out, n.Value), true
	case *ast.NullNode, nil:
		return append(out, "null"...), true
	}
	d.problem(d.at(n), "", "JSON has no such value")
	return nil, false
}

func (d *decoder) objectJSON(out []byte, n *ast.MappingNode, depth int) ([]byte, bool) {
	before, sound := len(d.problems), true
	out = append(out, '{')
	first := true
	d.mapping(n, func(name string, _ pos, value ast.Node) {
		if !sound {
			return
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(textJSON(out, name), ':')
		out, sound = d.asJSON(out, value, depth+1)
	})
	return append(out, '}'), sound && len(d.problems) == before
}

func (d *decoder) arrayJSON(out []byte, n *ast.SequenceNode, depth int) ([]byte, bool) {
	out = append(out, '[')
	for i, value := range n.Values {
		if i > 0 {
			out = append(out, ',')
		}
		var ok bool
		if out, ok = d.asJSON(out, bare(value), depth+1); !ok {
			return nil, false
		}
	}
	return append(out, ']'), true
}

// numberJSON keeps a number as it is written where JSON writes it so too: 1.10 is not 1.1.
func (d *decoder) numberJSON(out []byte, n ast.Node) ([]byte, bool) {
	written := n.GetToken().Value
	if json.Valid([]byte(written)) {
		return append(out, written...), true
	}
	d.problem(d.at(n), "write it as JSON does", "this number cannot be put into JSON")
	return nil, false
}

func textJSON(out []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return append(out, quoted...)
}
