package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// pullHeartbeat is how often the broker shows that a request is known to it; after
	// two missing ones the request is made again.
	pullHeartbeat = 2 * time.Second
	// pullTime is how long the broker keeps a request that it has too few messages for.
	// Between two requests the consumer is looked at.
	pullTime = 6 * time.Second
	// pullLook is how often a source looks whether all is well with its requests.
	pullLook = time.Second
	// pullPause keeps a broker that refuses requests from being asked without end.
	pullPause = 250 * time.Millisecond

	// maxAsked bounds the bytes that the broker may have to send at once. It drops a
	// client that it has to buffer too much for: 64 MiB unless configured.
	maxAsked = 32 << 20
	// maxHeld bounds the bytes of the messages in memory, those asked for included. One
	// message may always be held, however large.
	maxHeld = 64 << 20
	// frameBytes is more than subject and reply of a message have, which the broker
	// counts.
	frameBytes = 16 << 10
)

// puller has the broker send messages, as many as there is room for. It makes requests
// as in NATS ADR-13, by itself: the client's own consumers keep messages in buffers
// where no sign of life is given for them, and from where they are not given back.
//
// Every request is for a number of messages and for bytes that there is room for; the
// broker ends it at the first message that does not fit.
type puller struct {
	ses     *session
	subject string // that requests are published to
	// largest is the size that no message exceeds.
	largest int
	// take gets every message, in the order of the stream, and must not block. It calls
	// release when the message is not held any more.
	take func(m *nats.Msg)

	// deliveries are the messages that were taken and not released. None is added after
	// stop.
	deliveries sync.WaitGroup
	// wakeCh says that there may be something to do.
	wakeCh chan struct{}

	mu        sync.Mutex
	inbox     *inbox
	all       []*inbox // that are not closed yet
	held      int
	heldBytes int
	// requests are those at the broker, which serves one after the other; asked and
	// askedBytes are what may still come of all of them.
	requests          []request
	asked, askedBytes int
	// cramped: the next message does not fit before one that is held has gone.
	cramped bool
	over    bool      // nothing is taken any more
	heard   time.Time // of the broker, about requests
	trouble error     // what the broker says against a request
}

// request is what is left of one at the broker.
type request struct{ n, bytes int }

// inbox is where the answers to requests arrive. What is requested after some trouble
// goes to another one, so that answers to lost requests do not add to it.
type inbox struct {
	sub      *nats.Subscription
	closedCh chan struct{} // after its last message was taken
}

func newPuller(ses *session, take func(m *nats.Msg)) *puller {
	largest := int(ses.c.nc.MaxPayload())
	if n := int(ses.maxMsgSize); n > 0 {
		largest = min(largest, n)
	}
	return &puller{
		ses: ses, take: take, largest: max(1, largest) + frameBytes,
		subject: "$JS.API.CONSUMER.MSG.NEXT." + ses.p.Stream + "." + ses.p.Consumer,
		wakeCh:  make(chan struct{}, 1),
	}
}

// run keeps requests at the broker until ctx ends, which is no error, or the session
// cannot go on. It waits out reconnects, and for the time of one timeout also a broker
// that has restarted and does not serve its streams yet.
func (p *puller) run(ctx context.Context) error {
	look := time.NewTicker(pullLook)
	defer look.Stop()
	var since time.Time // when the trouble began
	for {
		err := p.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if p.heardSince(since) {
				since = time.Time{}
			}
		case gone(err):
			p.ses.expire()
			return sdk.Disconnected(p.errorf("%w", err))
		case !passing(err):
			return p.errorf("%w", err)
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > p.ses.p.Timeout.D():
			return sdk.Disconnected(p.errorf("%w", err))
		}
		if err != nil {
			p.ses.env.Log.Debug("requests for messages are made again", "reason", err)
			p.leave()
			pause(ctx, pullPause)
			continue
		}
		select {
		case <-p.wakeCh:
		case <-look.C:
		case <-ctx.Done():
		case <-p.ses.over.Done():
			return sdk.Disconnected(p.errorf("%w", errAnew))
		}
	}
}

func (p *puller) errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return fmt.Errorf("pull from consumer %q of stream %q: %w", p.ses.p.Consumer, p.ses.p.Stream, err)
}

// step asks for messages, if there is room. It returns the trouble there is with what
// was asked for.
func (p *puller) step(ctx context.Context) error {
	if err := p.ses.c.waitConnected(ctx); err != nil {
		return err
	}
	n, bytes, err := p.room()
	if n == 0 || err != nil {
		return err
	}
	if err := p.ses.verify(ctx); err != nil {
		return err
	}
	return p.ask(n, bytes)
}

// room is how many messages to ask for now, and how many bytes they may have.
func (p *puller) room() (n, bytes int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.trouble; err != nil {
		p.trouble = nil
		return 0, 0, err
	}
	switch {
	case p.inbox != nil && p.inbox.sub.IsValid() && p.ses.c.generation() == p.ses.generation.Load():
	case p.inbox == nil:
	default:
		return 0, 0, errLost
	}
	if p.asked > 0 && time.Since(p.heard) > 2*pullHeartbeat+pullLook {
		return 0, 0, jetstream.ErrNoHeartbeat
	}
	n, bytes = p.roomLocked()
	return n, bytes, nil
}

// roomLocked bounds the number of messages and their bytes. A request costs the broker
// as much as a message, so it is one for many: when nothing is asked for, or a quarter
// of all may come. However large a message is, one may always be held.
func (p *puller) roomLocked() (n, bytes int) {
	most := p.ses.prefetch
	n, bytes = most-p.held-p.asked, min(maxAsked, maxHeld-p.heldBytes)-p.askedBytes
	if p.held == 0 && p.asked == 0 {
		n, bytes = max(n, 1), max(bytes, p.largest)
	}
	few := p.asked > 0 && (n < max(1, most/4) || bytes < maxAsked/4)
	if n <= 0 || bytes <= 0 || p.cramped || few {
		return 0, 0
	}
	if limit := p.ses.maxBatch; limit > 0 {
		n = min(n, limit)
	}
	if limit := p.ses.maxBytes; limit > 0 {
		bytes = min(bytes, limit)
	}
	return n, bytes
}

// dueLocked reports whether it is worth to ask for more.
func (p *puller) dueLocked() bool {
	n, _ := p.roomLocked()
	return n > 0
}

// ask publishes a request.
func (p *puller) ask(n, bytes int) error {
	in, err := p.open()
	if err != nil {
		return err
	}
	expires := pullTime
	if p.ses.maxExpires > 0 {
		expires = min(expires, p.ses.maxExpires)
	}
	body, err := json.Marshal(struct {
		Expires   time.Duration `json:"expires"`
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{expires, n, bytes, min(pullHeartbeat, expires/3)})
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.asked == 0 {
		p.heard = time.Now() // from now on it has to be heard of
	}
	p.requests = append(p.requests, request{n, bytes})
	p.asked, p.askedBytes = p.asked+n, p.askedBytes+bytes
	p.mu.Unlock()
	return p.ses.c.nc.PublishRequest(p.subject, in.sub.Subject, body)
}

// open returns the inbox for requests, with a new subscription if there is none.
func (p *puller) open() (*inbox, error) {
	p.mu.Lock()
	in := p.inbox
	p.mu.Unlock()
	if in != nil {
		return in, nil
	}
	in = &inbox{closedCh: make(chan struct{})}
	p.ses.generation.Store(p.ses.c.generation())
	sub, err := p.ses.c.nc.Subscribe(p.ses.c.nc.NewInbox(), func(m *nats.Msg) { p.receive(in, m) })
	if err != nil {
		return nil, err
	}
	sub.SetClosedHandler(func(string) { close(in.closedCh) })
	if err := sub.SetPendingLimits(-1, -1); err != nil { // what is asked for bounds it
		return nil, err
	}
	p.mu.Lock()
	in.sub = sub
	p.inbox, p.all = in, append(p.all, in)
	p.mu.Unlock()
	return in, nil
}

// receive takes a message or what the broker says about a request.
func (p *puller) receive(in *inbox, m *nats.Msg) {
	status := m.Header.Get("Status")
	if m.Reply == "" && status != "" {
		p.hear(in, m, status)
		return
	}
	p.mu.Lock()
	if p.over { // later than stop has waited: the broker offers it again
		p.mu.Unlock()
		return
	}
	p.deliveries.Add(1)
	p.heard = time.Now()
	if in == p.inbox {
		p.arrivedLocked(m.Size())
	}
	p.held++
	p.heldBytes += m.Size()
	due := p.dueLocked()
	p.mu.Unlock()
	if due {
		nudge(p.wakeCh)
	}
	p.take(m)
}

// release makes room for another message.
func (p *puller) release(m *nats.Msg) {
	p.mu.Lock()
	p.held--
	p.heldBytes -= m.Size()
	p.cramped = false
	due := p.dueLocked()
	p.mu.Unlock()
	if due {
		nudge(p.wakeCh)
	}
	p.deliveries.Done()
}

// arrivedLocked takes a message off the first request, and that off the rest when it
// is served: its bytes that were not needed are free then.
func (p *puller) arrivedLocked(size int) {
	if len(p.requests) == 0 {
		return
	}
	first := &p.requests[0]
	size = min(size, first.bytes)
	first.n, first.bytes = first.n-1, first.bytes-size
	p.asked, p.askedBytes = p.asked-1, p.askedBytes-size
	if first.n == 0 {
		p.endedLocked()
	}
}

// endedLocked takes off what is left of the first request: the broker is done with it.
func (p *puller) endedLocked() {
	if len(p.requests) == 0 {
		return
	}
	first := p.requests[0]
	p.requests = p.requests[1:]
	p.asked, p.askedBytes = p.asked-first.n, p.askedBytes-first.bytes
}

// What a broker says of a request with a bound of bytes: that the next message has more
// than are left of it, and, after the last message, that it is done (NATS ADR-13).
const (
	tooLargeText  = "exceeds maxbytes"
	completedText = "batch completed"
)

// hear takes a status: a heartbeat, or the end of a request.
func (p *puller) hear(in *inbox, m *nats.Msg, status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in != p.inbox {
		return
	}
	description := m.Header.Get("Description")
	switch said := strings.ToLower(description); {
	case status == "100", strings.Contains(said, completedText): // it waits, or all of it has come
		p.heard = time.Now()
		return
	case status == "404", status == "408": // its time is over
		p.heard = time.Now()
	case p.held > 0 && strings.Contains(said, tooLargeText):
		p.heard, p.cramped = time.Now(), true
	default:
		p.trouble = statusError(status, description)
	}
	p.endedLocked()
	nudge(p.wakeCh)
}

// statusError is what a status means that ends a request before its time.
func statusError(status, description string) error {
	text := strings.ToLower(description)
	for part, err := range map[string]error{
		"consumer deleted":  jetstream.ErrConsumerDeleted,
		"leadership change": jetstream.ErrConsumerLeadershipChanged,
		"server shutdown":   jetstream.ErrServerShutdown,
	} {
		if strings.Contains(text, part) {
			return err
		}
	}
	if status == "503" {
		return nats.ErrNoResponders
	}
	return fmt.Errorf("%w: %s %s", errRefused, status, description)
}

// errRefused is for requests that the broker does not take for now, such as too many
// from too many nodes at one consumer.
var errRefused = errors.New("broker refuses a request for messages")

// heardSince reports whether the broker has given a sign since then.
func (p *puller) heardSince(then time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard.After(then) && p.trouble == nil
}

// leave gives up what was asked for: what is on its way still arrives, what is
// requested next goes to another inbox.
func (p *puller) leave() {
	p.ses.doubt() // the consumer may be gone, or the broker may have just started
	p.mu.Lock()
	in := p.inbox
	p.inbox, p.requests, p.asked, p.askedBytes, p.cramped, p.trouble = nil, nil, 0, 0, false, nil
	open := p.all[:0]
	for _, one := range p.all {
		select {
		case <-one.closedCh:
		default:
			open = append(open, one)
		}
	}
	p.all = open
	p.mu.Unlock()
	if in != nil && (!p.ses.c.connected() || in.sub.Drain() != nil) {
		_ = in.sub.Unsubscribe() // without a connection nothing is on its way
	}
}

// stop gives up what was asked for and waits, for closeTimeout at most, until all that
// was on its way has been taken.
func (p *puller) stop() {
	p.leave()
	p.mu.Lock()
	all := p.all
	p.mu.Unlock()
	limit, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, in := range all {
		select {
		case <-in.closedCh:
		case <-limit.Done():
		}
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
}

func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
