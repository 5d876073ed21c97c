package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/api"
)

func TestEveryProblemHasAPage(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	codes := append(api.ProblemCodes(), api.TicketProblemCodes()...)
	require.Greater(t, len(codes), 60, "codes")
	for _, code := range codes {
		path := "/problems/" + strings.ReplaceAll(code, "_", "-")
		page := b.do(t, call{method: "GET", path: path, key: "-", header: headers("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")})
		require.Equal(t, 200, page.status, "%s has no page: add it to problemTexts", code)
		require.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"), "media type of %s", code)
		require.Contains(t, string(page.raw), "<code>"+code+"</code>", "the page of %s", code)
		data := b.do(t, call{method: "GET", path: path, key: "-", header: headers("Accept", "application/json")})
		require.Equal(t, []any{path, code}, []any{data.field(t, "type"), data.field(t, "code")}, "%s for programs", code)
		for _, field := range []string{"title", "meaning", "advice"} {
			require.NotEmpty(t, data.field(t, field), "%s of %s", field, code)
		}
		require.Equal(t, "Accept", page.header.Get("Vary"), "Vary")
	}
}

func TestAProblemThatDoesNotExistHasNoPage(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	for _, name := range []string{"nothing", "not_found", "Not-Found", "<script>", "not-found/"} {
		requireProblem(t, b.do(t, call{method: "GET", path: "/problems/" + name, key: "-"}), 404, "not_found")
	}
}
