package api_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// section is one of the contract of the API: what it promises, row by row.
type section struct {
	title string
	// test is the test of this package whose subtests are named after rows. Empty: there is
	// none, and all is proven elsewhere.
	test string
	rows []row
}

// row is a row of a table of the contract, or a sentence that promises something.
type row struct {
	says string
	// proof lists the tests that prove it, besides the subtest of its name: those of this
	// package, and behind "egress:" those of another.
	proof string
	// missing says what of it is not built. Empty: nothing.
	missing string
}

// declared is what the tests of a package are called, and their subtests, as far as they
// have a name that stands in the text.
type declared map[string]map[string]bool

// testsOf reads the tests of a package.
func testsOf(t *testing.T, dir string) declared {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	require.NoError(t, err, "list the tests of %s", dir)
	require.NotEmpty(t, files, "tests of %s", dir)
	out := make(declared)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err, "parse %s", name)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Body != nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				out[f.Name.Name] = subtests(f)
			}
		}
	}
	return out
}

// subtests are the texts that t.Run is called with, and the keys of tables.
func subtests(f *ast.FuncDecl) map[string]bool {
	out := make(map[string]bool)
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				out[text] = true
			}
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Run" && len(n.Args) == 2 {
				add(n.Args[0])
			}
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok {
					add(pair.Key)
				}
			}
		}
		return true
	})
	return out
}

// provenBy lists where a row is proven elsewhere, as package and test.
func (r row) provenBy() (out [][2]string) {
	dir := "api"
	for _, word := range strings.Fields(r.proof) {
		if name, ok := strings.CutSuffix(word, ":"); ok {
			dir = name
			continue
		}
		out = append(out, [2]string{dir, word})
	}
	return out
}

func TestEveryRowOfTheContractIsProvenOrKnownToBeMissing(t *testing.T) {
	t.Parallel()
	packages := map[string]declared{"api": testsOf(t, "api")}
	rows, here, missing := 0, 0, 0
	for _, s := range theContract {
		seen := make(map[string]bool)
		for _, r := range s.rows {
			at := fmt.Sprintf("§%s: %s", s.title, r.says)
			require.False(t, seen[r.says], "%s is there twice", at)
			seen[r.says] = true
			for _, p := range r.provenBy() {
				if packages[p[0]] == nil {
					packages[p[0]] = testsOf(t, p[0])
				}
				_, there := packages[p[0]][p[1]]
				require.True(t, there, "%s: there is no %s in %s", at, p[1], p[0])
			}
			rows++
			switch {
			case packages["api"][s.test][r.says]:
				here++
			case r.missing != "":
				missing++
			default:
				require.NotEmpty(t, r.provenBy(), "%s: nothing proves it", at)
			}
		}
	}
	t.Logf("%d rows in %d sections: %d with a subtest of their name, %d by other tests, %d missing", rows, len(theContract), here, rows-here-missing, missing)
}

// proves begins the subtest of a row, which must be one of its section.
func proves(t *testing.T) {
	t.Helper()
	test, name, ok := strings.Cut(t.Name(), "/")
	require.True(t, ok, "%s is no subtest", t.Name())
	for _, s := range theContract {
		if s.test != test {
			continue
		}
		for _, r := range s.rows {
			if strings.ReplaceAll(r.says, " ", "_") == name {
				return
			}
		}
	}
	require.Fail(t, "no row", "%s is no row of %s", name, test)
}
