package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

// Recall implements sdk.Recaller. A suspended message lies in the stream of dead
// letters, where it is found by its ID, or where it always was, and there its number
// finds it.
func (s *source) Recall(ctx context.Context, key string) (sdk.Delivery, error) {
	wanted, err := parseKey(key)
	if err != nil {
		return sdk.Delivery{}, sdk.Permanent(err)
	}
	if wanted.stream != s.p.Stream {
		return sdk.Delivery{}, sdk.Permanent(fmt.Errorf("the message was received from stream %q, and the location reads %q now; resume it when the location reads the old stream again, or discard it", wanted.stream, s.p.Stream))
	}
	c, err := s.link.connect(ctx)
	if err != nil {
		return sdk.Delivery{}, err
	}
	if s.p.DeadLetterSubject != "" {
		found, err := s.graves.find(ctx, c, s.p, key)
		if err != nil {
			return sdk.Delivery{}, fmt.Errorf("look for the dead letter of message %s: %w", key, err)
		}
		if found != nil {
			return found.delivery(wanted), nil
		}
		// It may have been suspended before there was a dead_letter_subject.
	}
	return s.inPlace(ctx, c, wanted)
}

// inPlace brings back a message that lies in its own stream. It was acknowledged or
// terminated when it was suspended, so nothing is left to be settled.
func (s *source) inPlace(ctx context.Context, c *conn, wanted letter) (sdk.Delivery, error) {
	stream, err := lookUp(ctx, c, s.p, s.p.Stream)
	if err != nil {
		return sdk.Delivery{}, err
	}
	m, err := getMsg(ctx, s.p, stream, wanted.seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !m.Time.Equal(wanted.stored) {
		return sdk.Delivery{}, sdk.Gone(fmt.Errorf("message %s is not in stream %q any more, and no dead letter is found", wanted.key(), s.p.Stream))
	}
	if err != nil {
		return sdk.Delivery{}, fmt.Errorf("get message %d of stream %q: %w", wanted.seq, s.p.Stream, err)
	}
	wanted.subject, wanted.header, wanted.data = m.Subject, m.Header, m.Data
	return sdk.Delivery{
		Item: wanted.item(), Open: wanted.open,
		Settle: func(context.Context, sdk.Verdict) error { return nil },
	}, nil
}

// lookUp finds a stream, within one timeout.
func lookUp(ctx context.Context, c *conn, p receiveProperties, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.D())
	defer cancel()
	ctx, done := c.whileUp(ctx)
	defer done()
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, sdk.Disconnected(streamError(name, why(ctx, err)))
	}
	return stream, nil
}

// getMsg gets a stored message, within one timeout.
func getMsg(ctx context.Context, p receiveProperties, stream jetstream.Stream, seq uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout.D())
	defer cancel()
	return stream.GetMsg(ctx, seq, opts...)
}

// grave is where a dead letter lies.
type grave struct {
	c       *conn
	p       receiveProperties
	stream  jetstream.Stream
	created time.Time // of the stream: in another one the number is another message
	msg     *jetstream.RawStreamMsg
	forget  func()
}

// delivery is the message as it was before it was suspended. Delivered removes the dead
// letter; any other verdict leaves it where it is.
func (g *grave) delivery(wanted letter) sdk.Delivery {
	wanted.data = g.msg.Data
	wanted.subject, wanted.header = revive(g.msg.Header)
	return sdk.Delivery{
		Item: wanted.item(), Open: wanted.open,
		Settle: func(ctx context.Context, v sdk.Verdict) error {
			if v != sdk.Delivered {
				return nil
			}
			return g.remove(ctx)
		},
	}
}

// revive undoes what publishDeadLetter did to the headers.
func revive(dead nats.Header) (subject string, h nats.Header) {
	h = nats.Header{}
	for key, values := range dead {
		switch key {
		case headerDeadStream, headerDeadSubject, headerDeadSequence, headerDeadID, jetstream.MsgIDHeader:
		default:
			h[key] = values
		}
	}
	if id := dead.Get(headerDeadID); id != "" {
		h.Set(jetstream.MsgIDHeader, unescape(id))
	}
	return unescape(dead.Get(headerDeadSubject)), h
}

// remove deletes the dead letter. One that somebody has removed already is all right.
func (g *grave) remove(ctx context.Context) error {
	stream, err := lookUp(ctx, g.c, g.p, g.stream.CachedInfo().Config.Name)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(g.created) {
		return nil // it went with its stream
	}
	if info.Config.DenyDelete {
		return nil // nor can anybody else remove it before its time
	}
	ctx, cancel := context.WithTimeout(ctx, g.p.Timeout.D())
	defer cancel()
	ctx, done := g.c.whileUp(ctx)
	defer done()
	err = stream.DeleteMsg(ctx, g.msg.Sequence)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !g.isGone(ctx, stream) {
		return fmt.Errorf("delete dead letter %d of stream %q: %w", g.msg.Sequence, info.Config.Name, why(ctx, err))
	}
	g.forget()
	return nil
}

// isGone reports whether the dead letter is certainly not there: the broker's answer to
// the deletion of what is not there differs between versions.
func (g *grave) isGone(ctx context.Context, stream jetstream.Stream) bool {
	_, err := getMsg(ctx, g.p, stream, g.msg.Sequence)
	return errors.Is(err, jetstream.ErrMsgNotFound)
}
