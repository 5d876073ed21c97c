package approvals_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
)

func binding() approvals.Binding {
	s := submission()
	s.Call.Headers = append(s.Call.Headers, approvals.Header{Name: "X-Trace", Value: "1"})
	return approvals.Binding{
		Caller: s.Caller, OnBehalfOf: "gus", Call: s.Call, UpstreamDigest: upstream,
		CallbackURL: s.Callback.URL, ExpiresAt: after(time.Hour), NotBefore: after(30 * time.Minute),
	}
}

// leaves calls visit for every field below v that holds no fields itself, so that one
// that is added later is visited too. What it does not know how to change fails the test.
func leaves(t *testing.T, path string, v reflect.Value, visit func(path string, v reflect.Value)) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Kind() == reflect.String, v.Type() == reflect.TypeFor[[]byte]():
		visit(path, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			leaves(t, path+"."+v.Type().Field(i).Name, v.Field(i), visit)
		}
	case v.Kind() == reflect.Slice:
		require.Positive(t, v.Len(), "%s is empty: nothing below it would be tried", path)
		visit(path, v)
		for i := range v.Len() {
			leaves(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i), visit)
		}
	default:
		require.Fail(t, "this test does not know how to change "+path)
	}
}

// changes returns other values for a leaf.
func changes(v reflect.Value) []reflect.Value {
	switch x := v.Interface().(type) {
	case string:
		return []reflect.Value{reflect.ValueOf(x + "x"), reflect.ValueOf("x" + x), reflect.ValueOf(""), reflect.ValueOf(strings.ToUpper(x) + " ")}
	case []byte:
		return []reflect.Value{reflect.ValueOf(append([]byte("x"), x...)), reflect.ValueOf([]byte(nil))}
	case time.Time:
		return []reflect.Value{reflect.ValueOf(x.Add(time.Microsecond)), reflect.ValueOf(time.Time{})}
	}
	twice := reflect.AppendSlice(v.Slice3(0, v.Len(), v.Len()), v)
	return []reflect.Value{twice, v.Slice(0, 0), v.Slice(0, v.Len()-1)}
}

func TestDigestChangesWithEverySingleField(t *testing.T) {
	t.Parallel()
	want, seen := binding().Digest(), map[string]string{}
	b := binding()
	leaves(t, "Binding", reflect.ValueOf(&b).Elem(), func(path string, v reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		for _, other := range changes(old) {
			v.Set(other)
			got := b.Digest()
			require.NotEqual(t, want, got, "%s = %v is not in the digest", path, other)
			require.Empty(t, seen[got], "%s = %v collides", path, other)
			seen[got] = path
		}
		v.Set(old)
		require.Equal(t, want, b.Digest())
	})
	require.Greater(t, len(seen), 25)
}

func TestDigestHasNoAmbiguityAtFieldBoundaries(t *testing.T) {
	t.Parallel()
	var texts []reflect.Value
	b := binding()
	leaves(t, "Binding", reflect.ValueOf(&b).Elem(), func(_ string, v reflect.Value) {
		if v.Kind() == reflect.String {
			texts = append(texts, v)
			v.SetString("")
		}
	})
	require.Greater(t, len(texts), 10)
	seen := map[string]string{}
	for i, x := range texts {
		for j, y := range texts {
			if i == j {
				continue
			}
			for _, cut := range [][2]string{{"ab", "c"}, {"a", "bc"}} {
				x.SetString(cut[0])
				y.SetString(cut[1])
				got := b.Digest()
				require.Empty(t, seen[got], "%d, %d and %s share a digest at %v", i, j, seen[got], cut)
				seen[got] = fmt.Sprint(i, j, cut)
			}
			x.SetString("")
			y.SetString("")
		}
	}
}

func TestDigestTellsHeadersApart(t *testing.T) {
	t.Parallel()
	type pair = approvals.Header
	h := func(headers ...pair) string {
		b := binding()
		b.Call.Headers = headers
		return b.Digest()
	}
	digests := map[string]bool{}
	for _, d := range []string{
		h(), h(pair{"a", "b"}), h(pair{"b", "a"}), h(pair{"ab", ""}), h(pair{"a", ""}, pair{"b", ""}),
		h(pair{"a", "b"}, pair{"c", "d"}), h(pair{"c", "d"}, pair{"a", "b"}), h(pair{"a", "bc"}, pair{"d", ""}),
	} {
		require.False(t, digests[d])
		digests[d] = true
	}
}

func TestDigestIsInjectiveOverRandomBindings(t *testing.T) {
	t.Parallel()
	gen := rapid.Custom(func(rt *rapid.T) approvals.Binding {
		s := rapid.SampledFrom([]string{"", "a", "b", "ab", "\x00", "\x01a"})
		b := approvals.Binding{Caller: s.Draw(rt, "caller"), OnBehalfOf: s.Draw(rt, "behalf"), UpstreamDigest: s.Draw(rt, "up"), CallbackURL: s.Draw(rt, "url")}
		b.Call = approvals.Call{Upstream: s.Draw(rt, "upstream"), Method: s.Draw(rt, "method"), Path: s.Draw(rt, "path"), Query: s.Draw(rt, "query"), Body: []byte(s.Draw(rt, "body"))}
		for range rapid.IntRange(0, 2).Draw(rt, "headers") {
			b.Call.Headers = append(b.Call.Headers, approvals.Header{Name: s.Draw(rt, "name"), Value: s.Draw(rt, "value")})
		}
		return b
	})
	rapid.Check(t, func(rt *rapid.T) {
		x, y := gen.Draw(rt, "x"), gen.Draw(rt, "y")
		if (x.Digest() == y.Digest()) != reflect.DeepEqual(x, y) {
			rt.Fatalf("%+v and %+v", x, y)
		}
	})
}

func TestDigestDoesNotDependOnTheTimeZone(t *testing.T) {
	t.Parallel()
	b := binding()
	want := b.Digest()
	b.ExpiresAt = b.ExpiresAt.In(time.FixedZone("elsewhere", 3600))
	require.Equal(t, want, b.Digest())
}

func TestTicketBindingHasTheTicketsDigest(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	require.Equal(t, tk.Digest, tk.Binding(upstream).Digest())
	require.NotEqual(t, tk.Digest, tk.Binding("re-pointed").Digest())
}

func TestDigestSurvivesTheDatabasesClockPrecision(t *testing.T) {
	t.Parallel()
	tr, err := approvals.Submit(submission(), planOf(stage("peer", set(1, "team"))), office(), start.Add(1234*time.Nanosecond))
	require.NoError(t, err)
	tk := tr.Ticket
	tk.ExpiresAt = tk.ExpiresAt.Truncate(time.Microsecond) // as timestamptz keeps it
	require.Equal(t, tk.Digest, tk.Binding(upstream).Digest())
}

func TestFingerprintShowsSixteenDigits(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	require.Equal(t, "f77b d7a4 6ac1 2f29", approvals.Fingerprint(key, "0123456789abcdef0123"))
	require.NotEqual(t, approvals.Fingerprint(key, "a"), approvals.Fingerprint(key, "b"))
	require.NotEqual(t, approvals.Fingerprint(key, "a"), approvals.Fingerprint(key[1:], "a"), "without the key nobody can try out what a request holds")
	require.Empty(t, approvals.Fingerprint(nil, "a"))
	require.Empty(t, approvals.Fingerprint(key, ""))
}
