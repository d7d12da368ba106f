package lepton

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

// asked makes one attempt at routers a, b, c, of which some are down, and tells whom it asked.
func asked(w *route, down string) (order string, err *Error) {
	_, err = ask(w, func(p *peer) (bool, *Error) {
		order += p.address
		if slices.Contains([]byte(down), p.address[0]) {
			return false, &Error{Code: codes.Unavailable}
		}
		return true, nil
	})
	return order, err
}

func TestRoutersAreAskedFromTheOneThatAnsweredLast(t *testing.T) {
	r := &routers{peers: []*peer{{address: "a"}, {address: "b"}, {address: "c"}}}
	for _, c := range []struct {
		down, want string
	}{
		{"", "a"},
		{"a", "ab"},
		{"", "b"},      // b has answered last
		{"bc", "bca"},  // round, each once
		{"abc", "abc"}, // a has answered last
	} {
		order, err := asked(r.route(), c.down)
		if order != c.want {
			t.Errorf("%+v: asked %s", c, order)
		}
		if (err != nil) != (c.down == "abc") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestARefusalIsAnAnswer(t *testing.T) {
	r := &routers{peers: []*peer{{address: "a"}, {address: "b"}}}
	calls := 0
	_, err := ask(r.route(), func(*peer) (bool, *Error) {
		calls++
		return false, &Error{Code: codes.Unavailable, Reason: "NO_WORKER", ours: true}
	})
	if calls != 1 || err.Reason != "NO_WORKER" {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestAnAttemptBeginsBehindTheRouterThatFailed(t *testing.T) {
	r := &routers{peers: []*peer{{address: "a"}, {address: "b"}, {address: "c"}}}
	way := r.route()
	_, _ = ask(way, func(*peer) (bool, *Error) {
		return false, &Error{Code: codes.Unavailable, Reason: "DRAINING", ours: true}
	})
	r.last.Store(2) // another call was answered by c meanwhile
	if order, _ := asked(way, "b"); order != "bc" {
		t.Errorf("asked %s", order)
	}
	if order, _ := asked(way, "abc"); order != "cab" {
		t.Errorf("after an answer the one that gave it is the first: asked %s", order)
	}
	if order, _ := asked(way, ""); order != "c" {
		t.Errorf("round after all had failed: asked %s", order)
	}
}
