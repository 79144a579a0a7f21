package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

// maxGraves bounds the dead letters that are kept in mind, some 150 bytes each.
const maxGraves = 100_000

// graves knows where dead letters lie, as far as their stream was searched. A stream is
// searched once, and not from its beginning for every message that is brought back. No
// consumer is made for it: in a work queue that would take the messages away.
type graves struct {
	// searching holds a token while a goroutine searches.
	searching chan struct{}

	// Of the holder of the token:
	created time.Time // of the stream; zero: nothing is known
	next    uint64    // the first sequence number that is not noted
	at      map[string]uint64
	room    int // for so many
}

func newGraves() *graves { return &graves{searching: make(chan struct{}, 1), room: maxGraves} }

// find returns the dead letter of a key, nil if there is none.
func (g *graves) find(ctx context.Context, c *conn, p receiveProperties, key string) (*grave, error) {
	select {
	case g.searching <- struct{}{}:
		defer func() { <-g.searching }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stream, err := deadStream(ctx, c, p)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(g.created) {
		g.created, g.next, g.at = info.Created, 0, map[string]uint64{}
	}
	id := deadID(key)
	m, err := g.look(ctx, p, stream, id)
	if m == nil || err != nil {
		return nil, err
	}
	return &grave{c: c, p: p, stream: stream, created: info.Created, msg: m, forget: func() { g.forget(id) }}, nil
}

// deadStream finds the stream of the dead letters.
func deadStream(ctx context.Context, c *conn, p receiveProperties) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.D())
	defer cancel()
	ctx, done := c.whileUp(ctx)
	defer done()
	name, err := c.js.StreamNameBySubject(ctx, p.DeadLetterSubject)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("the stream of dead_letter_subject %q: %w", p.DeadLetterSubject, why(ctx, err)))
	}
	return lookUp(ctx, c, p, name)
}

// look finds the message with this ID, where it is known to be or where nobody has
// looked yet.
func (g *graves) look(ctx context.Context, p receiveProperties, stream jetstream.Stream, id string) (*jetstream.RawStreamMsg, error) {
	if seq, ok := g.at[id]; ok {
		m, err := getMsg(ctx, p, stream, seq)
		switch {
		case err == nil && is(m.Header, id):
			return m, nil
		case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
			return nil, err
		}
		delete(g.at, id) // somebody has removed it
	}
	subject := p.DeadLetterSubject
	if stream.CachedInfo().Config.SubjectTransform != nil {
		subject = ">" // the stored subject is another than the published one
	}
	// What there is no room for in memory is looked at again next time.
	from, noted := max(1, g.next), true
	for {
		m, err := getMsg(ctx, p, stream, from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err // the next search goes on from here
		}
		from = m.Sequence + 1
		found := m.Header.Get(jetstream.MsgIDHeader)
		if noted = noted && len(g.at) < g.room; noted {
			g.next, g.at[found] = from, m.Sequence
		}
		if found == id {
			return m, nil
		}
	}
}

// forget is for a dead letter that was removed. While somebody searches it stays in
// mind, until it is looked for in vain.
func (g *graves) forget(id string) {
	select {
	case g.searching <- struct{}{}:
		delete(g.at, id)
		<-g.searching
	default:
	}
}
