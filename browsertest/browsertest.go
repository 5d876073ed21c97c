// Package browsertest looks at pages as a person does: with a real Chromium, headless, that
// clicks what can be seen and keeps screenshots where somebody can look at them.
package browsertest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is how long a page may take to show something; generous, since the machine may be
// busy and nobody waits for a page that is right.
const patience = 60 * time.Second

// Tab is one tab of a browser of its own. Its methods wait until what they need is there and
// fail the test when it does not come.
type Tab struct {
	tb  testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it
}

// Size is the inside of a window in CSS pixels. Dark asks for the dark colours.
type Size struct {
	Width, Height int
	Dark          bool
}

// Open opens an address in a browser that ends with the test. Where there is no Chromium the
// test says loudly that it was skipped: scripts/ensure-chromium installs one.
func Open(tb testing.TB, url string, size Size) *Tab {
	tb.Helper()
	path := find()
	if path == "" {
		tb.Skipf("SKIPPED, NOT TESTED: no Chromium on this machine; scripts/ensure-chromium says how to get one")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(tb.TempDir()),
		chromedp.WindowSize(cmp.Or(size.Width, 1280), cmp.Or(size.Height, 860)), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("lang", "en-US"))
	if size.Dark {
		options = append(options, chromedp.Flag("blink-settings", "preferredColorScheme=0"))
	}
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), options...)
	tb.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	tb.Cleanup(cancel)
	t := &Tab{tb: tb, ctx: ctx}
	require.NoError(tb, chromedp.Do(ctx), "start %s", path) // without a deadline, which would end the browser
	t.do("open "+url, chromedp.Navigate(url))
	return t
}

// find returns the path of a Chromium, "" for none.
func find() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

func (t *Tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	err := chromedp.Do(ctx, actions...)
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "Could not find node") { // it was drawn anew in between
		err = chromedp.Do(ctx, actions...)
	}
	if err != nil {
		t.Screenshot("failed-" + filepath.Base(t.tb.Name()))
		page := []rune(t.text("body"))
		require.NoError(t.tb, err, "%s; the page ends:\n%s", what, string(page[max(0, len(page)-3000):]))
	}
}

// Go opens another address in the tab.
func (t *Tab) Go(url string) {
	t.tb.Helper()
	t.do("go to "+url, chromedp.Navigate(url))
}

// A selector is CSS, or XPath where it begins with "//".

// Click clicks the first visible element of a CSS selector, in its middle, as a mouse does.
func (t *Tab) Click(selector string) {
	t.tb.Helper()
	t.do("click "+selector, chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Reach clicks an element again and again until another is there: to get to a place, where the
// way there may be drawn anew under the pointer.
func (t *Tab) Reach(selector, until string) {
	t.tb.Helper()
	const step = `(sel, until) => { if (document.querySelector(until)) return true; document.querySelector(sel)?.click(); return false; }`
	t.do("reach "+until, poll(step, selector, until))
}

// Press clicks the button that reads so, below an element given as XPath, and makes sure that
// the click arrived at it. One that did not, because the page was drawn anew or moved under the
// pointer, is made again, as a person would; one that did never is.
func (t *Tab) Press(within, label string) {
	t.tb.Helper()
	const watch = `(label) => { window.pressArrived = false; document.addEventListener("click", (e) => {
		const b = e.target.closest("button"); if (b && b.innerText.trim().replace(/\s+/g, " ") === label) window.pressArrived = true;
	}, {capture: true, once: true}); return true; }`
	path := chromedp.Search(fmt.Sprintf(`%s//button[normalize-space(.)=%q]`, within, label))
	for try := 1; ; try++ {
		t.do("watch for a press of "+label, poll(watch, label))
		t.do("press "+label, chromedp.ScrollIntoView(path), chromedp.Click(path, chromedp.NodeVisible))
		if t.arrived() {
			return
		}
		require.Less(t.tb, try, 20, "the press of %s does not arrive", label)
	}
}

// arrived reports whether the last press did. The page that it led away from counts as well.
func (t *Tab) arrived() bool {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`window.pressArrived !== false`))
	return err == nil && got
}

// Type types into the first visible element of a selector.
func (t *Tab) Type(selector, text string) {
	t.tb.Helper()
	t.do("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// find1 is JavaScript that finds the first element of a selector.
const find1 = `(sel.startsWith("//") ? document.evaluate(sel, document, null, 9, null).singleNodeValue : document.querySelector(sel))`

// Clear empties an input as a person would, by selecting all of it.
func (t *Tab) Clear(selector string) {
	t.tb.Helper()
	t.Run(fmt.Sprintf(`document.querySelector(%q).select()`, selector))
	t.Type(selector, "\b")
}

// Await waits until the text of the first element of a selector, as it is shown, holds every
// one of the words, and returns it.
func (t *Tab) Await(selector string, words ...string) string {
	t.tb.Helper()
	const holds = `(sel, words) => { const n = ` + find1 + `; return !!n && words.every((w) => n.innerText.includes(w)); }`
	t.do(fmt.Sprintf("wait for %q in %s", words, selector), poll(holds, selector, words))
	return t.text(selector)
}

// AwaitNone waits until a selector finds nothing that is shown.
func (t *Tab) AwaitNone(selector string) {
	t.tb.Helper()
	const gone = `(sel) => [...document.querySelectorAll(sel)].every((n) => n.getClientRects().length === 0)`
	t.do("wait until there is no "+selector, poll(gone, selector))
}

func poll(function string, args ...any) chromedp.Action[chromedp.Void] {
	return ignore(chromedp.PollFunction[bool](function, chromedp.WithPollingArgs(args...), chromedp.WithPollingTimeout(patience),
		chromedp.WithPollingInterval(20*time.Millisecond)))
}

// ignore runs an action for what it does and not for its answer.
func ignore[T any](a chromedp.Action[T]) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := a(ctx, target)
		return err
	})
}

// text is what an element reads now, "" for none.
func (t *Tab) text(selector string) string {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`(sel => %s?.innerText || "")(%q)`, find1, selector)))
	if err != nil {
		return err.Error()
	}
	return out
}

// Run runs JavaScript in the page.
func (t *Tab) Run(script string) {
	t.tb.Helper()
	t.do("run "+script, ignore(chromedp.Evaluate[bool](script+"; true")))
}

// Screenshot writes what the window shows to out/screenshots/NAME.png of the module, or to
// the directory that SCREENSHOTS names.
func (t *Tab) Screenshot(name string) {
	t.tb.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	image, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.tb.Logf("no screenshot %s: %v", name, err)
		return
	}
	dir := cmp.Or(os.Getenv("SCREENSHOTS"), filepath.Join(root(), "out", "screenshots"))
	path := filepath.Join(dir, name+".png")
	require.NoError(t.tb, os.MkdirAll(dir, 0o755))          //nolint:gosec // to be looked at
	require.NoError(t.tb, os.WriteFile(path, image, 0o644)) //nolint:gosec // to be looked at
	t.tb.Logf("screenshot: %s", path)
}

// root is the directory of the module, above the one a test runs in.
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	return dir
}
