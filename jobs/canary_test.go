package jobs_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// canaries are secrets that must show nowhere, by what they are.
type canaries map[string]string

// found lists which of them some content holds in whichever spelling.
func (c canaries) found(content []byte) (out []string) {
	plain := unescaped(content)
	for what, secret := range c {
		for spelling, needles := range spellings(secret) {
			for _, needle := range needles {
				if bytes.Contains(content, []byte(needle)) || bytes.Contains(plain, unescaped([]byte(needle))) {
					out = append(out, what+" as "+spelling)
					break
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// unescaped drops what text within text, such as JSON in an array in a row, is escaped with.
func unescaped(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte(`\`), nil), []byte(`""`), []byte(`"`))
}

// spellings are the ways in which a secret may be written.
func spellings(secret string) map[string][]string {
	quoted, _ := json.Marshal(secret) // a string always marshals
	var percent, unicode, entities strings.Builder
	for _, b := range []byte(secret) {
		fmt.Fprintf(&percent, "%%%02X", b)
		fmt.Fprintf(&unicode, "\\u%04x", b)
		fmt.Fprintf(&entities, "&#%d;", b)
	}
	escaped := url.QueryEscape(secret)
	backwards := []byte(secret)
	slices.Reverse(backwards)
	return map[string][]string{
		"itself":         {secret},
		"hex":            {hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))},
		"URL":            {escaped, url.PathEscape(secret), percent.String(), strings.ToLower(percent.String())},
		"URL twice":      {url.QueryEscape(escaped), url.QueryEscape(percent.String())},
		"JSON":           {strings.Trim(string(quoted), `"`), unicode.String(), strings.ToUpper(unicode.String())},
		"HTML":           {html.EscapeString(secret), entities.String()},
		"base64":         inBase64(base64.RawStdEncoding, secret),
		"base64 for URL": inBase64(base64.RawURLEncoding, secret),
		"backwards":      {string(backwards)},
	}
}

// inBase64 are the characters that the secret alone decides, wherever it stands in what is
// encoded.
func inBase64(encoding *base64.Encoding, secret string) (out []string) {
	for offset := range 3 {
		all := encoding.EncodeToString(append(make([]byte, offset), secret...))
		out = append(out, all[(offset*8+5)/6:(offset+len(secret))*8/6])
	}
	return out
}

// dump is everything in a database, by table: each row as text, and what is binary as it is.
func dump(tb testing.TB, dsn string) map[string][]byte {
	tb.Helper()
	conn := superuser(tb, dsn)
	out := make(map[string][]byte)
	for _, table := range column[string](tb, dsn, `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`) {
		queries := []string{fmt.Sprintf(`SELECT convert_to(t::text, 'UTF8') FROM %q t`, table)}
		for _, name := range column[string](tb, dsn, `SELECT column_name::text FROM information_schema.columns
			WHERE table_schema = 'public' AND data_type = 'bytea' AND table_name = $1`, table) {
			queries = append(queries, fmt.Sprintf(`SELECT %q FROM %q WHERE %q IS NOT NULL`, name, table, name))
		}
		for _, query := range queries {
			rows, err := conn.Query(tb.Context(), query)
			require.NoError(tb, err, query)
			for rows.Next() {
				var row []byte
				require.NoError(tb, rows.Scan(&row), query)
				out[table] = append(append(out[table], row...), '\n')
			}
			require.NoError(tb, rows.Err(), query)
		}
	}
	return out
}

func column[T any](tb testing.TB, dsn, query string, args ...any) (out []T) {
	tb.Helper()
	rows, err := superuser(tb, dsn).Query(tb.Context(), query, args...)
	require.NoError(tb, err, query)
	defer rows.Close()
	for rows.Next() {
		var one T
		require.NoError(tb, rows.Scan(&one), query)
		out = append(out, one)
	}
	require.NoError(tb, rows.Err(), query)
	return out
}

func TestCanaryIsFoundInEverySpellingAndPlace(t *testing.T) {
	t.Parallel()
	birds := canaries{"the bird": `cAnary/<1>+&"x`, "another": "not-here-at-all"}
	for spelling, needles := range spellings(birds["the bird"]) {
		for i, needle := range needles {
			found := birds.found([]byte("before " + needle + " after"))
			require.NotEmpty(t, found, "%s, %d: %s", spelling, i, needle)
			require.Contains(t, strings.Join(found, ","), "the bird as")
		}
	}
	for offset := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", offset) + birds["the bird"] + "tail"))
		require.Contains(t, birds.found([]byte(whole)), "the bird as base64")
	}
	require.Empty(t, birds.found([]byte("cAnary, and nothing else of it")))

	w := setup(t)
	w.submit(call{})
	conn := superuser(t, w.url)
	for _, plant := range []string{
		`INSERT INTO service_events (stream, type, actor_kind, actor_name, actor_via, data) VALUES ('s', 't', 'k', 'n', 'v', jsonb_build_object('x', $1::text))`,
		`INSERT INTO river_job (kind, state, args, max_attempts, errors) VALUES ('k', 'available', '{}', 1, ARRAY[jsonb_build_object('trace', $1::text)])`,
		`UPDATE calls SET body = convert_to($1, 'UTF8')`,
	} {
		_, err := conn.Exec(t.Context(), `SET session_replication_role = replica`)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), plant, birds["the bird"])
		require.NoError(t, err, plant)
	}
	places := make(map[string][]string)
	for table, content := range dump(t, w.url) {
		if found := birds.found(content); len(found) > 0 {
			places[table] = found
		}
	}
	require.ElementsMatch(t, []string{"service_events", "river_job", "calls"}, keys(places), "%v", places)
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}
