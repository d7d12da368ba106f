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

// ask makes one attempt at a call: at the router that answered last, and while routers cannot be reached at the next
// one, at each at most once. elsewhere: that one has refused, others come first.
func ask[T any](r *routers, elsewhere bool, call func(*peer) (T, *Error)) (T, *Error) {
	first := int(r.last.Load())
	if elsewhere {
		first++
	}
	for k := 0; ; k++ {
		index := (first + k) % len(r.peers)
		answer, err := call(r.peers[index])
		if err == nil || err.ours {
			r.last.Store(int64(index))
		}
		if err == nil || !err.unreachable() || k == len(r.peers)-1 {
			return answer, err
		}
	}
}
