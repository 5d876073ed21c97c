package directory

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"countersign/policy"
)

// maxUsers bounds the people that are remembered: anybody can press a button. Far more than
// any configuration links.
const maxUsers = 20_000

// memory holds the facts with the moments, on this process's clock, when Slack was asked.
type memory struct {
	now func() time.Time

	mu     sync.Mutex
	asked  map[key]time.Time
	before map[key]time.Time // what was asked before that is outdated
	said   atomic.Pointer[policy.Facts]
}

// key names what a fact is of.
type key struct {
	kind kind
	id   string
}

type kind int

const (
	ofUser kind = iota
	ofGroup
)

func newMemory(now func() time.Time) *memory {
	m := &memory{now: now, asked: map[key]time.Time{}, before: map[key]time.Time{}}
	m.said.Store(&policy.Facts{})
	return m
}

// facts are what is known now. They must not be changed.
func (m *memory) facts() *policy.Facts { return m.said.Load() }

// fresh reports whether a fact is of at most that age and nothing has changed since.
func (m *memory) fresh(k key, age time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, known := m.asked[k]
	return known && !at.Before(m.now().Add(-age)) && !at.Before(m.before[k])
}

// age is how long ago Slack was asked; known is false for what it never was, or what has
// changed since.
func (m *memory) age(k key) (_ time.Duration, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, known := m.asked[k]
	if at.Before(m.before[k]) {
		known = false
	}
	return m.now().Sub(at), known
}

// outdate makes everything too old that was asked for before now.
func (m *memory) outdate(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before[k] = m.now()
}

// fact is one fact and when it was asked for.
type fact[T any] struct {
	value T
	at    time.Time
}

// learn takes facts over, unless later ones are known, and reports whether any says
// something else than before. The facts keep their pointer when none does.
func (m *memory) learn(users []fact[policy.SlackUser], groups []fact[policy.SlackGroup]) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.said.Load()
	newUsers := merge(m, ofUser, next.Users, users, func(u policy.SlackUser) (string, policy.SlackUser) {
		u.ReadAt = time.Time{}
		return u.ID, u
	})
	newGroups := merge(m, ofGroup, next.Groups, groups, func(g policy.SlackGroup) (string, policy.SlackGroup) {
		g.ReadAt = time.Time{}
		return g.ID, g
	})
	if newUsers == nil && newGroups == nil {
		return false
	}
	if newUsers != nil {
		next.Users = newUsers
		m.forget(next.Users)
	}
	if newGroups != nil {
		next.Groups = newGroups
	}
	m.said.Store(&next)
	return true
}

// merge returns the old facts with the new ones, or nil when nothing is different. plain
// takes out of a fact what is no news.
func merge[T any](m *memory, of kind, old map[string]T, add []fact[T], plain func(T) (string, T)) map[string]T {
	var out map[string]T
	for _, f := range add {
		id, value := plain(f.value)
		k := key{of, id}
		if at, known := m.asked[k]; id == "" || known && at.After(f.at) {
			continue
		}
		m.asked[k] = f.at
		if was, known := old[id]; known {
			if _, before := plain(was); reflect.DeepEqual(before, value) {
				continue
			}
		}
		if out == nil {
			out = maps.Clone(old)
			if out == nil {
				out = map[string]T{}
			}
		}
		out[id] = f.value
	}
	return out
}

// forget drops those whose facts are the oldest when there are too many.
func (m *memory) forget(users map[string]policy.SlackUser) {
	if len(users) <= maxUsers {
		return
	}
	ids := slices.SortedFunc(maps.Keys(users), func(a, b string) int {
		return cmp.Or(m.asked[key{ofUser, a}].Compare(m.asked[key{ofUser, b}]), cmp.Compare(a, b))
	})
	for _, id := range ids[:len(users)-maxUsers*9/10] {
		delete(users, id)
		delete(m.asked, key{ofUser, id})
		delete(m.before, key{ofUser, id})
	}
}
