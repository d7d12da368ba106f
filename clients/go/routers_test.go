package lepton

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

// asked makes one attempt at routers a, b, c, of which some are down, and tells whom it asked.
func asked(r *routers, elsewhere bool, down string) (order string, err *Error) {
	_, err = ask(r, elsewhere, func(p *peer) (bool, *Error) {
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
		elsewhere  bool
		down, want string
	}{
		{false, "", "a"},
		{false, "a", "ab"},
		{false, "", "b"},      // b has answered last
		{false, "bc", "bca"},  // round, each once
		{false, "abc", "abc"}, // a has answered last
		{true, "", "b"},       // elsewhere after a refusal
	} {
		order, err := asked(r, c.elsewhere, c.down)
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
	_, err := ask(r, false, func(*peer) (bool, *Error) {
		calls++
		return false, &Error{Code: codes.Unavailable, Reason: "NO_WORKER", ours: true}
	})
	if calls != 1 || err.Reason != "NO_WORKER" {
		t.Errorf("%d calls, %v", calls, err)
	}
}
