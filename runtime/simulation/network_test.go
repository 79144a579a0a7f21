package simulation

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// network is the state of all links between nodes. The world's lock guards it.
type network struct {
	blocked [][]int // from, to: how many faults block it
	slow    []time.Duration
	loss    int // messages in a thousand that are lost
	repeat  int // and that arrive twice
}

func newNetwork(nodes int) network {
	n := network{blocked: make([][]int, nodes), slow: make([]time.Duration, nodes)}
	for i := range n.blocked {
		n.blocked[i] = make([]int, nodes)
	}
	return n
}

// leg is one message's way.
type leg struct {
	delay time.Duration
	lost  bool
	twice bool
}

// Each kind of message has numbers of its own.
func (w *world) leg(stream, from, to int) leg {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := leg{delay: span(w.drawLocked(stream, from, to), 100*time.Microsecond, 2*time.Millisecond)}
	if slow := max(w.net.slow[from], w.net.slow[to]); slow > 0 {
		l.delay += span(w.drawLocked(stream, from, to), 0, slow)
	}
	if w.net.loss > 0 || w.net.repeat > 0 {
		x := int(w.drawLocked(stream, from, to) % 1000)
		l.lost, l.twice = x < w.net.loss, x >= 1000-w.net.repeat
	}
	return l
}

// open reports whether the link carries messages at this moment.
func (w *world) open(from, to int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.net.blocked[from][to] == 0
}

var (
	errDown    = errors.New("simulated: this process has ended")
	errRefused = errors.New("simulated: connection refused")
	errSilence = errors.New("simulated: no answer")
)

// silence is what raft waits for a peer that does not answer.
const silence = 200 * time.Millisecond

// wire is a process's raft transport.
type wire struct {
	p        *process
	consumer chan raft.RPC
	beat     func(raft.RPC)
}

var (
	_ raft.Transport   = (*wire)(nil)
	_ raft.WithPreVote = (*wire)(nil)
)

func (x *wire) Consumer() <-chan raft.RPC                               { return x.consumer }
func (x *wire) LocalAddr() raft.ServerAddress                           { return raft.ServerAddress(x.p.n.name) }
func (x *wire) SetHeartbeatHandler(beat func(raft.RPC))                 { x.beat = beat }
func (x *wire) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (x *wire) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }

func (x *wire) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errors.New("simulated: no snapshots are taken")
}

func (x *wire) AppendEntries(to raft.ServerID, _ raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return exchange(x, to, req, resp)
}

func (x *wire) RequestVote(to raft.ServerID, _ raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return exchange(x, to, req, resp)
}

func (x *wire) RequestPreVote(to raft.ServerID, _ raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return exchange(x, to, req, resp)
}

func (x *wire) TimeoutNow(to raft.ServerID, _ raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return exchange(x, to, req, resp)
}

// exchange carries a request to a peer and its answer back.
func exchange[Req, Resp any](x *wire, id raft.ServerID, req *Req, resp *Resp) error {
	w, from := x.p.n.w, x.p.n.id
	to := w.find(string(id))
	if !x.p.gate() {
		return errDown
	}
	limit := time.Now().Add(silence)
	stream := streamRaft
	if isHeartbeat(req) {
		stream = streamBeat
	}
	out := w.leg(stream, from, to)
	time.Sleep(out.delay)
	if out.lost || !w.open(from, to) {
		return x.hush(limit)
	}
	peer := w.nodes[to].process()
	if peer == nil {
		return errRefused
	}
	if out.twice {
		late := *req
		w.tasks.Go(func() {
			time.Sleep(w.leg(stream, from, to).delay + out.delay*20)
			_, _ = peer.wire.deliver(&late, time.Now().Add(silence))
		})
	}
	answer, err := peer.wire.deliver(req, limit)
	if err != nil {
		return err
	}
	back := w.leg(stream+1, to, from)
	time.Sleep(back.delay)
	if back.lost || !w.open(to, from) {
		return x.hush(limit)
	}
	if !x.p.gate() {
		return errDown
	}
	*resp = *answer.(*Resp)
	return nil
}

// hush is the time without an answer.
func (x *wire) hush(limit time.Time) error {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case <-timer.C:
		x.p.gate()
		return errSilence
	case <-x.p.gone:
		return errDown
	}
}

// deliver hands a request to this process's raft and waits for the answer. To a
// frozen process it is handed when it thaws, wherever the sender is then.
func (x *wire) deliver(req any, limit time.Time) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: req, RespChan: answer}
	if x.p.frozen() {
		x.p.n.w.tasks.Go(func() {
			if x.p.gate() {
				x.hand(rpc)
			}
		})
	} else {
		x.hand(rpc)
	}
	select {
	case a := <-answer:
		return a.Response, a.Error
	default:
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case a := <-answer:
		if !x.p.gate() { // it froze, or crashed, before it could answer
			return nil, errSilence
		}
		return a.Response, a.Error
	case <-timer.C:
		return nil, errSilence
	case <-x.p.gone:
		return nil, errSilence
	}
}

// hand gives the request to raft: heartbeats past its queue, as raft wants it.
func (x *wire) hand(rpc raft.RPC) {
	if isHeartbeat(rpc.Command) {
		x.beat(rpc)
		return
	}
	select {
	case x.consumer <- rpc:
	case <-x.p.gone:
	}
}

func isHeartbeat(req any) bool {
	a, ok := req.(*raft.AppendEntriesRequest)
	return ok && len(a.Entries) == 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && a.LeaderCommitIndex == 0
}

// call has serve run at another node, as an RPC between nodes does: it may be
// executed although the answer is lost, twice, or when the caller is long gone.
func (w *world) call(ctx context.Context, from *process, to int, serve func(context.Context, *process) error) error {
	if !from.gate() {
		return errDown
	}
	if to == from.n.id {
		err := serve(ctx, from)
		from.gate()
		return err
	}
	end, ok := ctx.Deadline()
	if !ok {
		return errors.New("simulated: a call without a deadline")
	}
	out := w.leg(streamCall, from.n.id, to)
	s := &served{serve: serve, limit: time.Until(end), answer: make(chan error, 1)}
	if !pause(ctx, out.delay) || out.lost || !w.open(from.n.id, to) {
		if !out.lost { // the network delivers it when it is mended
			w.tasks.Go(func() { s.mended(from.n, to) })
		}
		<-ctx.Done()
		from.gate()
		return errSilence
	}
	at := w.nodes[to].process()
	if at == nil {
		return errRefused
	}
	w.tasks.Go(func() { s.run(at) })
	if out.twice {
		late := span(w.draw(streamCall, from.n.id, to), time.Millisecond, 3*ttl/2)
		w.tasks.Go(func() { time.Sleep(late); s.run(at) })
	}
	var err error
	select {
	case err = <-s.answer:
	case <-ctx.Done():
		return from.late(s.answer)
	}
	back := w.leg(streamCall+1, to, from.n.id)
	if !pause(ctx, back.delay) || back.lost || !w.open(to, from.n.id) {
		<-ctx.Done()
		err = errSilence
	}
	if !from.gate() {
		return errDown
	}
	return err
}

// served is a call at its server.
type served struct {
	serve  func(context.Context, *process) error
	limit  time.Duration
	answer chan error // of capacity 1; the first one counts
}

func (s *served) run(at *process) {
	if !at.gate() {
		return
	}
	// A server counts the deadline from when it reads the request.
	ctx, cancel := context.WithTimeout(at.ctx, s.limit)
	defer cancel()
	err := s.serve(ctx, at)
	if at.gate() {
		select {
		case s.answer <- err:
		default:
		}
	}
}

// mended delivers a request that was on its way when its link was cut.
func (s *served) mended(from *node, to int) {
	for range 60 {
		time.Sleep(50 * time.Millisecond)
		if !from.w.open(from.id, to) {
			continue
		}
		if at := from.w.nodes[to].process(); at != nil {
			s.run(at)
		}
		return
	}
}

// late is what a caller makes of the end of its deadline. If it was frozen then, it
// finds both when it thaws, the answer and that it is too late, and takes the one or
// the other.
func (p *process) late(answer <-chan error) error {
	if !p.frozen() {
		return errSilence
	}
	if !p.gate() {
		return errDown
	}
	select {
	case err := <-answer:
		if p.n.w.draw(streamCall, p.n.id, p.n.id)%2 == 0 {
			return err
		}
	default:
	}
	return errSilence
}

// pause waits for d and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
