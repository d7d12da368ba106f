package lepton

import (
	"errors"
	"sync"
)

const idleWorkersMax = 16

// workers are the connections of direct mode: open while a stream uses them, and some longer, so that the next stream
// need not connect.
type workers struct {
	settings settings
	mutex    sync.Mutex
	inUse    map[string]*heldWorker
	idle     []*peer // last used last
}

type heldWorker struct {
	peer  *peer
	users int
}

func newWorkers(s settings) *workers {
	return &workers{settings: s, inUse: map[string]*heldWorker{}}
}

// take returns the connection to a worker; give it back with release.
func (w *workers) take(address string) (*peer, *Error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if held := w.inUse[address]; held != nil {
		held.users++
		return held.peer, nil
	}
	for i, peer := range w.idle {
		if peer.address == address {
			w.idle = append(w.idle[:i], w.idle[i+1:]...)
			w.inUse[address] = &heldWorker{peer: peer, users: 1}
			return peer, nil
		}
	}
	peer, err := openPeer(address, w.settings)
	if err != nil {
		return nil, err
	}
	w.inUse[address] = &heldWorker{peer: peer, users: 1}
	return peer, nil
}

func (w *workers) release(peer *peer) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	held := w.inUse[peer.address]
	if held == nil { // closed meanwhile
		return
	}
	if held.users--; held.users > 0 {
		return
	}
	delete(w.inUse, peer.address)
	if w.idle = append(w.idle, peer); len(w.idle) > idleWorkersMax {
		_ = w.idle[0].conn.Close()
		w.idle = w.idle[1:]
	}
}

func (w *workers) close() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var failures error
	for _, held := range w.inUse {
		failures = errors.Join(failures, held.peer.conn.Close())
	}
	for _, peer := range w.idle {
		failures = errors.Join(failures, peer.conn.Close())
	}
	w.inUse, w.idle = map[string]*heldWorker{}, nil
	return failures
}
