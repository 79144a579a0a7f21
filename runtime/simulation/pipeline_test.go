package simulation

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// pipeline sends a request before the last one is answered, as raft's transport over
// TCP does, with its default of two requests under way. It breaks at the first one
// that is not answered.
type pipeline struct {
	x        *wire
	to       raft.ServerID
	queue    chan *inFlight
	answers  chan raft.AppendFuture
	broken   chan struct{} // closed when the connection is
	closed   chan struct{}
	finished bool // used by the one goroutine that raft calls from
}

// inFlight is one request of a pipeline.
type inFlight struct {
	start time.Time
	req   *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	done  chan struct{} // closed when there is an answer, or err
	err   error
}

var (
	_ raft.AppendPipeline = (*pipeline)(nil)
	_ raft.AppendFuture   = (*inFlight)(nil)

	errPipeline = errors.New("simulated: the pipeline is closed")
)

func (f *inFlight) Start() time.Time                      { return f.start }
func (f *inFlight) Request() *raft.AppendEntriesRequest   { return f.req }
func (f *inFlight) Response() *raft.AppendEntriesResponse { return f.resp }
func (f *inFlight) Error() error                          { <-f.done; return f.err }

// AppendEntriesPipeline implements raft.Transport: every other schedule has pipelines.
func (x *wire) AppendEntriesPipeline(to raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	if x.p.n.w.seed%2 == 0 {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	p := &pipeline{
		x: x, to: to, queue: make(chan *inFlight), answers: make(chan raft.AppendFuture),
		broken: make(chan struct{}), closed: make(chan struct{}),
	}
	x.p.n.w.tasks.Go(p.run)
	return p, nil
}

func (p *pipeline) run() {
	for broken := false; ; {
		select {
		case f := <-p.queue:
			if f.err = errPipeline; !broken {
				f.err = exchange(p.x, p.to, f.req, f.resp)
			}
			close(f.done)
			if f.err != nil && !broken {
				broken = true
				close(p.broken)
			}
			select {
			case p.answers <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.broken:
		return nil, errPipeline
	default:
	}
	// Raft draws its next timeout when this returns. The leader sends to all at the same
	// instant, in the order of a map: were it to draw for all of them then, a seed would
	// not give the same schedule again.
	time.Sleep(time.Duration(1 + p.x.p.n.w.find(string(p.to))))
	f := &inFlight{start: time.Now(), req: req, resp: resp, done: make(chan struct{})}
	select {
	case p.queue <- f:
		return f, nil
	case <-p.closed:
		return nil, errPipeline
	case <-p.x.p.gone:
		return nil, errDown
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	if !p.finished {
		p.finished = true
		close(p.closed)
	}
	return nil
}
