package lepton

import (
	"errors"
	"sync/atomic"
)

// routers are those that a client was given. The one that answered last is asked first.
type routers struct {
	peers []*peer
	last  atomic.Int64 // index into peers
}

func (r *routers) close() error {
	var failures error
	for _, peer := range r.peers {
		failures = errors.Join(failures, peer.conn.Close())
	}
	return failures
}

// route is the way of one call through the routers.
type route struct {
	routers *routers
	asked   int  // index of the peer that was asked last
	failed  bool // it has refused the call or lost it
}

func (r *routers) route() *route { return &route{routers: r} }

// first is whom an attempt asks first: the router that answered last; after a failure the one behind it, since what is
// so there (it drains, its line is full, it hangs) may be otherwise elsewhere.
func (w *route) first() int {
	if w.failed {
		return w.asked + 1
	}
	return int(w.routers.last.Load())
}

// ask makes one attempt at a call: while routers cannot be reached at the next one, at each at most once.
func ask[T any](w *route, call func(*peer) (T, *Error)) (T, *Error) {
	r, first := w.routers, w.first()
	for k := 0; ; k++ {
		index := (first + k) % len(r.peers)
		answer, err := call(r.peers[index])
		w.asked, w.failed = index, err != nil
		if err == nil || err.ours {
			r.last.Store(int64(index))
		}
		if err == nil || !err.unreachable() || k == len(r.peers)-1 {
			return answer, err
		}
	}
}
