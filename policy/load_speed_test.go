package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

// The limit is several times what it takes, so that a busy machine does not fail it.
func TestManyCallersRulesAndPeopleLoadSoon(t *testing.T) {
	t.Parallel()
	var people, callers, rules strings.Builder
	var names []string
	for i := range 300 {
		fmt.Fprintf(&people, "  - {name: p%d, slack: U0P%d}\n", i, i)
		names = append(names, fmt.Sprintf("p%d", i))
	}
	for i := range 60 {
		fmt.Fprintf(&callers, "  - {name: c%d, key_sha256: %064x, owners: [p%d], upstreams: [billing]}\n", i, i+1, i)
	}
	for i := range 40 {
		set := "need: [{from: [g], approvals: 100}, {from: [h], approvals: 100}, {from: [g], approvals: 90}]"
		fmt.Fprintf(&rules, "  - {name: r%d, match: {path: \"/a%d\"}, distinct: stage, stages: [{name: a, %s}, {name: b, %s}]}\n", i, i, set, set)
	}
	text := sections(map[string]string{
		"people": "people:\n" + people.String(), "callers": "callers:\n" + callers.String(), "rules": "rules:\n" + rules.String(),
		"groups": fmt.Sprintf("groups:\n  - {name: g, members: [%s]}\n  - {name: h, members: [%s]}\n", strings.Join(names, ","), strings.Join(names[:299], ",")),
	})
	quick(t, 4*time.Second, "load", func() {
		_, err := policy.Parse("config.yaml", []byte(text), getenv)
		require.NoError(t, err)
	})
}
