package policy

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxFile bounds one file, maxLine one line, both in bytes.
	maxFile = 1 << 20
	maxLine = 8 << 10
	// maxDepth bounds how deep brackets nest. The parser recurses; with lines bounded too,
	// its stack is.
	maxDepth = 32
	// maxOddities bounds the anchors, tags and the like that are reported one by one.
	maxOddities = 20
)

// file decodes one file into the draft.
func (d *decoder) file(name string, content []byte) {
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(content), "\ufeff"))
	d.src = newSource(name, text)
	body, ok := d.parse(text, len(content))
	if !ok {
		d.unread = true
		return
	}
	if body != nil {
		d.top(bare(body))
	}
}

// parse returns the one document of a file, nil when it is empty, false when it is no YAML.
func (d *decoder) parse(text string, size int) (ast.Node, bool) {
	if !d.plain(size) {
		return nil, false
	}
	tokens, ok := d.tokens(text)
	if !ok {
		return nil, false
	}
	parsed, err := parse(tokens)
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	d.src.broken = false
	return d.single(parsed), true
}

// plain refuses what no editor shows as it is, and what would cost too much to parse.
func (d *decoder) plain(size int) bool {
	d.src.broken = true // until it is taken apart
	if size > maxFile {
		d.problem(pos{src: d.src, line: 1, col: 1}, "", "the file is larger than %s", showSize(maxFile))
		return false
	}
	before := len(d.problems)
	for i, line := range d.src.lines {
		at := pos{src: d.src, line: i + 1, col: 1}
		if len(line) > maxLine {
			d.problem(at, "", "the line is longer than %s", showSize(maxLine))
		}
		if col := oddCharacter(line); col > 0 {
			at.col = col
			d.problem(at, "", "the line has a tab, another control character, an invisible one or a byte that is not UTF-8")
		}
	}
	return len(d.problems) == before
}

// oddCharacter returns the column of the first character that an editor may not show, or
// that changes how the others look: what is read must be what was reviewed.
func oddCharacter(line string) int {
	col := 0
	for i, r := range line {
		col++
		_, width := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == utf8.RuneError && width == 1,
			r < ' ', r >= 0x7f && r <= 0x9f,
			r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
			return col
		}
	}
	return 0
}

func (d *decoder) tokens(text string) (token.Tokens, bool) {
	tokens := rejoin(lexer.Tokenize(text))
	d.src.hideSecrets(tokens)
	depth, odd := 0, 0
	for _, tk := range tokens {
		switch tk.Type { //nolint:exhaustive // the others are ordinary
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxDepth {
				d.problem(d.place(tk), "", "brackets nest deeper than %d", maxDepth)
				return nil, false
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType:
			d.problem(d.place(tk), "write it out", "%s are not supported", oddities[tk.Type])
			if odd++; odd == maxOddities {
				return nil, false
			}
		}
	}
	return tokens, true
}

// rejoin puts together what the lexer takes apart in the lists of flow mappings: in
// {a: [env:X]} it reads env:X as a mapping, although a colon without a space behind it is a
// character like any other.
func rejoin(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	var open []token.Type
	for _, tk := range tokens {
		switch tk.Type { //nolint:exhaustive // only brackets matter
		case token.MappingStartType, token.SequenceStartType:
			open = append(open, tk.Type)
		case token.MappingEndType, token.SequenceEndType:
			open = open[:max(len(open)-1, 0)]
		}
		n := len(out)
		inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
		if !inList || n < 2 || out[n-1].Type != token.MappingValueType || !plainScalar(tk) || !plainScalar(out[n-2]) ||
			!touching(out[n-2], out[n-1]) || !touching(out[n-1], tk) {
			out = append(out, tk)
			continue
		}
		whole := token.String(out[n-2].Value+":"+tk.Value, out[n-2].Origin+":"+tk.Origin, out[n-2].Position)
		whole.Prev, whole.Next = out[n-2].Prev, tk.Next
		if whole.Prev != nil {
			whole.Prev.Next = whole
		}
		if whole.Next != nil {
			whole.Next.Prev = whole
		}
		out = append(out[:n-2], whole)
	}
	return out
}

func plainScalar(tk *token.Token) bool {
	switch tk.Type { //nolint:exhaustive // the others are quoted or no scalars
	case token.StringType, token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
		token.FloatType, token.BoolType, token.NullType:
		return true
	}
	return false
}

// touching reports whether b follows a without a space.
func touching(a, b *token.Token) bool {
	return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

var oddities = map[token.Type]string{
	token.AnchorType:    "anchors (&)",
	token.AliasType:     "aliases (*)",
	token.TagType:       "tags (!)",
	token.MergeKeyType:  "merge keys (<<)",
	token.DirectiveType: "directives (%)",
}

func (d *decoder) place(tk *token.Token) pos {
	return pos{src: d.src, line: tk.Position.Line, col: tk.Position.Column}
}

var errParser = errors.New("the text cannot be parsed")

// parse turns a panic of the parser into an error: a file that trips it up is refused like
// any other that is no YAML.
func parse(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			file, err = nil, errParser
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

func (d *decoder) syntax(err error) {
	at, message := pos{src: d.src, line: 1, col: 1}, err.Error()
	var located yaml.Error
	if errors.As(err, &located) {
		message = located.GetMessage()
		if tk := located.GetToken(); tk != nil && tk.Position != nil {
			at = d.place(tk)
		}
	}
	hint := ""
	if at.line <= len(d.src.lines) && strings.Contains(d.src.lines[max(at.line, 1)-1], "/{") {
		hint = `put a path with {name} in quotes: "/customers/{id}"`
	}
	d.problem(at, hint, "not valid YAML: %s", message)
}

// single returns the one document of a file, nil when it is empty.
func (d *decoder) single(f *ast.File) ast.Node {
	docs := slices.DeleteFunc(slices.Clone(f.Docs), func(doc *ast.DocumentNode) bool {
		_, directive := doc.Body.(*ast.DirectiveNode)
		return directive || doc.Body == nil
	})
	if len(docs) == 0 {
		return nil
	}
	for _, doc := range docs[1:] {
		d.problem(d.at(doc.Body), "put it into a file of its own", "a file holds one document only")
	}
	return docs[0].Body
}

// bare looks through anchors and tags, which have been reported.
func bare(n ast.Node) ast.Node {
	for {
		switch outer := n.(type) {
		case *ast.AnchorNode:
			n = outer.Value
		case *ast.TagNode:
			n = outer.Value
		default:
			return n
		}
	}
}
