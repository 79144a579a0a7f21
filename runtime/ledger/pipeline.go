package ledger

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline is a raft pipeline that ends itself with the first request that fails.
//
// raft's own stops reading replies then, while the next request may already wait for a
// reply to be read: that never ends. The follower looks well, because heartbeats go
// another way, and gets no entry any more until another node leads. A single entry that
// it could not write, to a full disk for example, is enough. See hashicorp/raft#612.
type pipeline struct {
	raft.AppendPipeline
	replies chan raft.AppendFuture
	once    sync.Once
	closed  chan struct{}
	relay   sync.WaitGroup
}

var _ raft.AppendPipeline = (*pipeline)(nil)

func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, replies: make(chan raft.AppendFuture), closed: make(chan struct{})}
	p.relay.Go(p.read) // ends with Close
	return p
}

// read passes the replies on, and looks at them first.
func (p *pipeline) read() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() != nil || !f.Response().Success {
				// Whoever waits in AppendEntries gets an error instead.
				_ = p.AppendPipeline.Close()
			}
			select {
			case p.replies <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.replies }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	err := p.AppendPipeline.Close()
	p.once.Do(func() { close(p.closed) })
	p.relay.Wait()
	return err
}
