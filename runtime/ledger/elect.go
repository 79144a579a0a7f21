package ledger

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Elect has this node stand for election at once, without waiting until it misses
// its leader: for a follower that knows for certain that the leader is dead. Raft
// stays as safe as it is: whoever has not all that is committed is not elected. It
// does nothing on a node that leads or does not vote.
func (l *Ledger) Elect() error {
	if l.Leading() {
		return nil
	}
	servers, err := l.Servers()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(servers, func(s Server) bool { return s.id() == l.self() })
	if i < 0 || !servers[i].Voter {
		return nil
	}
	// What a leader that hands over sends to its successor (Ongaro, Consensus:
	// Bridging Theory and Practice, section 3.10).
	_, err = l.requests.do(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}})
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	return nil
}

// requests is raft's transport, through which this node can hand its own raft a
// request as if a peer had sent it.
type requests struct {
	raft.Transport
	merged chan raft.RPC
	done   chan struct{}
	once   sync.Once
	pump   sync.WaitGroup
}

func newRequests(t raft.Transport) *requests {
	r := &requests{Transport: t, merged: make(chan raft.RPC), done: make(chan struct{})}
	r.pump.Go(func() {
		for {
			select {
			case rpc := <-t.Consumer():
				select {
				case r.merged <- rpc:
				case <-r.done:
					return
				}
			case <-r.done:
				return
			}
		}
	})
	return r
}

// Consumer implements raft.Transport.
func (r *requests) Consumer() <-chan raft.RPC { return r.merged }

// do hands raft a request and returns its answer, within raftIO.
func (r *requests) do(request any) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	limit := time.NewTimer(raftIO)
	defer limit.Stop()
	select {
	case r.merged <- raft.RPC{Command: request, RespChan: answer}:
	case <-limit.C:
		return nil, errSilent
	case <-r.done:
		return nil, errClosed
	}
	select {
	case a := <-answer:
		return a.Response, a.Error
	case <-limit.C:
		return nil, errSilent
	case <-r.done:
		return nil, errClosed
	}
}

// Close implements raft.WithClose. Raft must have ended, or be about to.
func (r *requests) Close() error {
	var err error
	r.once.Do(func() {
		close(r.done)
		if t, ok := r.Transport.(raft.WithClose); ok {
			err = t.Close()
		}
		r.pump.Wait()
	})
	return err
}
