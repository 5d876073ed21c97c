package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
)

func TestParseKeyReadsBothForms(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"8e03978e-40d5":          "8e03978e-40d5",
		`"8e03978e-40d5"`:        "8e03978e-40d5",
		`"a b, c; d"`:            "a b, c; d",
		`"a\"b\\c"`:              `a"b\c`,
		"  x  ":                  "x",
		strings.Repeat("k", 255): strings.Repeat("k", 255),
	} {
		got, err := api.ParseKey(header)
		require.NoError(t, err, "parse %s", header)
		require.Equal(t, want, got, "key of %s", header)
	}
	for _, header := range []string{`"a`, `a"`, `"a"b"`, `"a\n"`, `"a\`, `"\`, `"`, "a b", "a;b", "ä", `"ä"`, "a\tb", `"a";p=1`} {
		_, err := api.ParseKey(header)
		require.Equal(t, "idempotency_key_invalid", api.ErrorCode(err), "parse %s", header)
	}
}

func TestAcceptChoosesTheMostSpecificRange(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"": true, "*/*": true, "application/json": true, "application/*": true, "text/html, */*;q=0.1": true,
		"text/html": false, "application/xml, text/*": false, "application/json;q=0": false,
		"*/*, application/json;q=0": false, "application/*;q=0, */*": false, "application/json;q=0.5, */*;q=0": true,
		"nonsense": false, ",": true, ";": true, "APPLICATION/JSON": true, "application/json;q=x": false,
	} {
		require.Equal(t, want, api.Accepts(header), "Accept: %s", header)
	}
}

func TestFingerprintIsOfTheMeaningNotTheSpelling(t *testing.T) {
	t.Parallel()
	fingerprint := func(body string) [32]byte {
		t.Helper()
		_, got, err := api.DecodeSubmit([]byte(withBody(body)))
		require.NoError(t, err, "decode %s", body)
		return got
	}
	same := [][2]string{
		{`{"a":1,"b":2}`, `{ "b" : 2, "a" : 1.0 }`},
		{`"\u00e9"`, `"é"`},
		{`100`, `1e2`},
		{`9007199254740993`, ` 9007199254740993 `},
	}
	for _, pair := range same {
		require.Equal(t, fingerprint(pair[0]), fingerprint(pair[1]), "%s and %s", pair[0], pair[1])
	}
	other := [][2]string{
		{`9007199254740993`, `9007199254740992`},
		{`0.1`, `0.10000000000000001`},
		{`1e400`, `1e500`},
		{`1e-400`, `0`},
		{`["a","b"]`, `["b","a"]`},
		{`"1"`, `1`},
		{`"\u00e9"`, `"e\u0301"`},
	}
	for _, pair := range other {
		require.NotEqual(t, fingerprint(pair[0]), fingerprint(pair[1]), "%s and %s", pair[0], pair[1])
	}
}

// A quadratic reader takes half a minute for this one.
func TestManyMembersBelowALongNameAreReadInNoTime(t *testing.T) {
	t.Parallel()
	members := make([]string, 60_000)
	for i := range members {
		members[i] = fmt.Sprintf(`"%x":1`, i)
	}
	raw := []byte(withBody(`{"` + strings.Repeat("k", 400_000) + `":{` + strings.Join(members, ",") + `}}`))
	read := make(chan error, 1)
	go func() {
		_, _, err := api.DecodeSubmit(raw)
		read <- err
	}()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	select {
	case err := <-read:
		require.NoError(t, err)
	case <-deadline.C:
		t.Fatal("a body of a megabyte is still being read after 10 s")
	}
}

// FuzzDecodeSubmit holds the strict decoder against encoding/json: what it accepts must
// mean the same there, and come out again as it went in.
func FuzzDecodeSubmit(f *testing.F) {
	f.Add([]byte(deletion))
	for _, c := range refusals {
		f.Add([]byte(c.body))
	}
	f.Add([]byte(withBody(`{"a":[1e400,-0,0.1,"\ud83d\ude00",{"b":null}]}`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, _, err := api.DecodeSubmit(raw)
		if err != nil {
			require.Contains(t, []string{"malformed_json", "invalid_body"}, api.ErrorCode(err), "decode %q", raw)
			return
		}
		var want api.SubmitRequest
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&want), "encoding/json on %q", raw)
		require.Equal(t, want, got, "the meaning of %q", raw)
		again, err := json.Marshal(got)
		require.NoError(t, err, "encode %q again", raw)
		_, _, err = api.DecodeSubmit(again)
		require.NoError(t, err, "decode %q again", again)
	})
}

func BenchmarkDecodeSubmit(b *testing.B) {
	raw := []byte(`{"upstream":"billing","method":"DELETE","path":"/customers/42","query":{"force":"true"},
		"headers":{"Accept":"application/json"},"body":{"reason":"gdpr","items":[1,2,3,4.5,{"a":"b"}]},
		"justification":"customer asked for erasure, case 991",
		"callback":{"url":"https://hooks.example.com/countersign","events":["ticket.approved"]},"metadata":{"case":"991"}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, _, err := api.DecodeSubmit(raw); err != nil {
			b.Fatal(err)
		}
	}
}
