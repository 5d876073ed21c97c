package browsertest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/browsertest"
)

func TestATabSeesWhatIsShownAndNothingElse(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, `<!doctype html><p id="p">before</p><p hidden>secret</p><input id="i">
			<form><button type="button" onclick="p.textContent = 'typed ' + i.value">Send it</button></form>`)
	}))
	t.Cleanup(srv.Close)
	tab := browsertest.Open(t, srv.URL, browsertest.Size{Width: 600, Height: 400})
	require.NotContains(t, tab.Await("body", "before"), "secret")
	tab.Type("#i", "a word")
	tab.Press("//form", "Send it")
	require.Equal(t, "typed a word", tab.Await("//p[1]", "typed"))
	tab.Run(`document.querySelector("form").remove()`)
	tab.AwaitNone("form")
}
