package main

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// asker makes requests to the broker of which many are under way at once, each waited
// for by one goroutine. The client's own way costs a good deal more for each: contexts,
// and what it takes to end a request together with the connection. Requests are bounded
// by those who wait: the endpoint's max_in_flight.
type asker struct {
	nc     *nats.Conn
	prefix string // of the subjects that answers go to

	mu      sync.Mutex
	last    uint64
	waiting map[string]chan *nats.Msg // by the subject of the answer
}

// newAsker subscribes to the answers, until the connection is closed.
func newAsker(nc *nats.Conn) (*asker, error) {
	a := &asker{nc: nc, prefix: nc.NewInbox() + ".", waiting: map[string]chan *nats.Msg{}}
	sub, err := nc.Subscribe(a.prefix+"*", a.answered)
	if err != nil {
		return nil, err
	}
	return a, sub.SetPendingLimits(-1, -1) // there is one answer to each request
}

func (a *asker) answered(m *nats.Msg) {
	a.mu.Lock()
	ch := a.waiting[m.Subject]
	delete(a.waiting, m.Subject)
	a.mu.Unlock()
	if ch != nil {
		ch <- m
	}
}

// ask publishes the message and returns the answer. It ends with ctx, or with up, the
// connection, and then errLost: an answer cannot come any more.
func (a *asker) ask(ctx, up context.Context, m *nats.Msg) (*nats.Msg, error) {
	ch := make(chan *nats.Msg, 1)
	a.mu.Lock()
	a.last++
	m.Reply = a.prefix + strconv.FormatUint(a.last, 36)
	a.waiting[m.Reply] = ch
	a.mu.Unlock()
	if err := a.nc.PublishMsg(m); err != nil {
		a.forget(m.Reply)
		return nil, err
	}
	select {
	case answer := <-ch:
		if len(answer.Data) == 0 && strings.HasPrefix(answer.Header.Get("Status"), "503") {
			return nil, nats.ErrNoResponders
		}
		return answer, nil
	case <-ctx.Done():
		a.forget(m.Reply)
		return nil, ctx.Err()
	case <-up.Done():
		a.forget(m.Reply)
		return nil, errLost
	}
}

func (a *asker) forget(reply string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, reply)
}

// ask makes a request that ends with ctx or with the connection.
func (c *conn) ask(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	return c.asker.ask(ctx, c.upContext(), m)
}
