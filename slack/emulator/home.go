package emulator

import (
	"context"
	"fmt"
)

// publishView is views.publish: the Home tab of one person.
func publishView(c *call) (object, error) {
	if c.cfg.NoHome {
		return nil, fail("not_enabled")
	}
	v, given, err := c.structured("view")
	if err != nil || !given {
		return nil, invalid("invalid_arguments", []string{"missing required field: view [json-pointer:]"})
	}
	user := c.users[c.str("user_id")]
	if user == nil || user.IsBot {
		return nil, &apiError{code: "invalid_arguments", extra: object{"response_metadata": object{"messages": []string{"invalid `user_id`"}}}}
	}
	body, err := c.prepareView(v, "home")
	if err != nil {
		return nil, err
	}
	return c.publishHome(user.ID, body)
}

func (c *call) publishHome(user string, body object) (object, error) {
	home := c.homes[user]
	if hash := c.str("hash"); hash != "" && (home == nil || hash != home.hash) {
		return nil, fail("hash_conflict")
	}
	if err := c.freeExternalID(body, home); err != nil {
		return nil, err
	}
	if home == nil {
		home = &view{id: c.nextID("V"), user: user, home: true, values: map[string]object{}}
		home.root = home.id
		c.homes[user], c.views[home.id] = home, home
	}
	c.fill(home, body)
	return object{"view": c.wireView(home)}, nil
}

// PublishedHome returns a person's Home tab as they would see it, and whether the app has
// published one.
func (s *Server) PublishedHome(user string) (View, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.homes[user]
	if !ok {
		return View{}, false
	}
	return s.viewView(v), true
}

// OpenHome lets a person look at the app's Home tab: app_home_opened is sent, and what comes
// of its first attempt is returned. Seen.OpenedView is the tab as it stands then, nil if none
// was published; the app may publish a newer one at any time, see [Server.Wait].
func (s *Server) OpenHome(ctx context.Context, user string) (Seen, error) {
	e, err := s.openHome(user)
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{}
	if e != nil {
		if err := s.attempted(ctx, e); err != nil {
			return seen, err
		}
		seen.Sent, seen.AckMS = true, e.took.Milliseconds()
	}
	if home, ok := s.PublishedHome(user); ok {
		seen.OpenedView = &home
	}
	return seen, nil
}

func (s *Server) openHome(user string) (*event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(user)
	if err != nil {
		return nil, err
	}
	if u.IsBot || u.IsStranger || u.TeamID != s.cfg.TeamID && !s.inGrid(u) {
		return nil, fmt.Errorf("%w: %s does not have this app", ErrNotAllowed, user)
	}
	inner := object{"type": "app_home_opened", "user": user, "channel": s.openIM(user).ID, "tab": "home"}
	if home := s.homes[user]; home != nil {
		inner["view"] = s.wireView(home)
	}
	return s.fire("app_home_opened", inner), nil
}
