package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// Answers to a delivered message (NATS ADR-13).
const (
	answerAck      = "+ACK"
	answerNak      = "-NAK"
	answerTerm     = "+TERM"
	answerProgress = "+WPI"
)

// beatsPerAckWait is how many signs of life go out in one ack_wait.
const beatsPerAckWait = 3

// drainDelay is how soon a message is offered to others that a draining node gives
// back. Not at once: the broker may not know yet that this node's last pull is over,
// and would answer that one, and wait for ack_wait then.
const drainDelay = 250 * time.Millisecond

// Headers of a dead letter that say where it comes from.
const (
	headerDeadStream   = "Fairlead-Dead-Letter-Stream"
	headerDeadSubject  = "Fairlead-Dead-Letter-Subject"
	headerDeadSequence = "Fairlead-Dead-Letter-Sequence"
	headerDeadID       = "Fairlead-Dead-Letter-Message-Id"
)

// delivery is one message that is under way.
type delivery struct {
	ses  *session
	msg  jetstream.Msg
	meta *jetstream.MsgMetadata
	key  string

	// settling is set when Settle was called: from then on only Settle answers.
	settling atomic.Bool
	// beaten is the boot clock at the last sign of life.
	beaten atomic.Int64

	stopOnce sync.Once
	// stopCh is closed when no more signs of life are to go out, doneCh when none
	// is under way any more.
	stopCh, doneCh chan struct{}
}

// handle delivers one message and, if it could not be handed over, gives it back.
func (ses *session) handle(ctx context.Context, msg jetstream.Msg, deliver sdk.Deliver) {
	meta, err := msg.Metadata()
	if err != nil {
		ses.env.Log.Error("broker delivered a message without metadata", "error", err)
		return
	}
	d := &delivery{
		ses: ses, msg: msg, meta: meta, key: itemKey(meta),
		stopCh: make(chan struct{}), doneCh: make(chan struct{}),
	}
	d.beaten.Store(int64(bootclock.Now()))
	go d.beat()
	defer d.stopBeat()
	// A delivery outlives the end of receiving: the SDK ends it in time.
	_, err = deliver(context.WithoutCancel(ctx), sdk.Delivery{Item: d.item(), Open: d.open, Settle: d.settle})
	if err == nil || d.settling.Load() || d.stale() {
		return
	}
	d.stopBeat()
	delay := ses.p.RetryDelay.D()
	if ctx.Err() != nil {
		delay = min(delay, drainDelay) // this node stops: another one may have it
	}
	// Nothing depends on it: without it the broker offers the message again after
	// ack_wait.
	if err := d.answer(context.WithoutCancel(ctx), nak(delay)); err != nil {
		ses.env.Log.Debug("message not given back", "key", d.key, "error", err)
	}
}

// itemKey identifies a stored message. The sequence number begins anew when a
// stream is deleted and made again, hence the time of storing: both together never
// come back.
func itemKey(meta *jetstream.MsgMetadata) string {
	return fmt.Sprintf("%s:%d:%d", meta.Stream, meta.Sequence.Stream, meta.Timestamp.UnixNano())
}

func (d *delivery) item() sdk.Item {
	h := d.msg.Headers()
	context := decodeHeaders(h)
	context[propDestination] = strings.ToValidUTF8(d.msg.Subject(), "\uFFFD")
	id := headerValue(h, jetstream.MsgIDHeader)
	if id == "" {
		id = fmt.Sprintf("%s:%d", d.meta.Stream, d.meta.Sequence.Stream)
	}
	context[propMessageID] = strings.ToValidUTF8(id, "\uFFFD")
	return sdk.Item{Key: d.key, Context: context, Size: int64(len(d.msg.Data()))}
}

func (d *delivery) open(context.Context) (*sdk.Content, error) {
	h := d.msg.Headers()
	part := sdk.Part{
		Name:        textValue(h, headerPartName),
		ContentType: textValue(h, headerContentType),
		Reader:      bytes.NewReader(d.msg.Data()),
	}
	return &sdk.Content{
		Parts: func(yield func(sdk.Part, error) bool) { yield(part, nil) },
		Close: func() error { return nil },
	}, nil
}

// beat tells the broker that the message is being worked on, until it is stopped.
func (d *delivery) beat() {
	defer close(d.doneCh)
	ticker := time.NewTicker(max(d.ses.ackWait/beatsPerAckWait, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-d.stopCh:
			return
		case <-ticker.C:
			now := bootclock.Now()
			// While the connection is down it fails at once and is not made up for.
			if err := d.ses.c.nc.Publish(d.msg.Reply(), []byte(answerProgress)); err == nil {
				d.beaten.Store(int64(now))
			}
		}
	}
}

// stopBeat may be called twice.
func (d *delivery) stopBeat() {
	d.stopOnce.Do(func() { close(d.stopCh) })
	<-d.doneCh
}

// stale reports whether the broker may have given the message to somebody else.
func (d *delivery) stale() bool {
	return bootclock.Now().Sub(bootclock.Time(d.beaten.Load())) >= d.ses.ackWait
}

// settle answers the broker and returns nil only when the broker has confirmed it.
// An acknowledgement is right even if the message was offered again meanwhile: it
// is about the stored message, whose fate is committed.
func (d *delivery) settle(ctx context.Context, v sdk.Verdict) error {
	d.settling.Store(true)
	switch v {
	case sdk.Delivered:
		return d.answer(ctx, answerAck)
	case sdk.Suspended:
		return d.suspend(ctx)
	case sdk.Retry:
		d.stopBeat() // a sign of life would undo the delay
		return d.answer(ctx, nak(d.ses.p.RetryDelay.D()))
	}
	return fmt.Errorf("settle %s: unknown verdict %d", d.key, v)
}

func nak(delay time.Duration) string {
	if delay <= 0 {
		return answerNak
	}
	return fmt.Sprintf("%s {\"delay\": %d}", answerNak, delay.Nanoseconds())
}

// answer sends an answer and waits for the broker's confirmation. It waits out a
// reconnect first.
func (d *delivery) answer(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, d.ses.p.Timeout.D())
	defer cancel()
	if err := d.ses.c.waitConnected(ctx); err != nil {
		return err
	}
	if err := d.ses.verify(ctx); err != nil {
		return err
	}
	ctx, done := d.ses.c.whileUp(ctx)
	defer done()
	if _, err := d.ses.c.nc.RequestWithContext(ctx, d.msg.Reply(), []byte(text)); err != nil {
		word, _, _ := strings.Cut(text, " ")
		return fmt.Errorf("%s of message %s: no confirmation by the broker: %w", word, d.key, why(ctx, err))
	}
	return nil
}

// suspend puts the message where it can be found: into the dead-letter queue, or
// aside in its own stream.
func (d *delivery) suspend(ctx context.Context) error {
	if d.ses.p.DeadLetterSubject == "" {
		return d.answer(ctx, answerTerm+" suspended by fairlead")
	}
	if err := d.publishDeadLetter(ctx); err != nil {
		return err
	}
	return d.answer(ctx, answerAck)
}

// publishDeadLetter copies the message. The copy's ID is made from the key, so that
// a second attempt adds nothing, and a dead-letter subject in the message's own
// stream does not take the copy for the message itself and drop it.
func (d *delivery) publishDeadLetter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.ses.p.Timeout.D())
	defer cancel()
	if err := d.ses.c.waitConnected(ctx); err != nil {
		return err
	}
	subject := d.ses.p.DeadLetterSubject
	msg := &nats.Msg{Subject: subject, Data: d.msg.Data(), Header: nats.Header{}}
	for key, values := range d.msg.Headers() {
		// Nats- headers are orders to the broker (expiry, roll-up, expectations).
		if !strings.HasPrefix(strings.ToLower(key), "nats-") {
			msg.Header[key] = values
		}
	}
	msg.Header.Set(headerDeadStream, d.meta.Stream)
	msg.Header.Set(headerDeadSubject, escapeValue(d.msg.Subject()))
	msg.Header.Set(headerDeadSequence, fmt.Sprint(d.meta.Sequence.Stream))
	if id := headerValue(d.msg.Headers(), jetstream.MsgIDHeader); id != "" {
		msg.Header.Set(headerDeadID, escapeValue(id))
	}
	msg.Header.Set(jetstream.MsgIDHeader, "dead:"+d.key)
	ctx, done := d.ses.c.whileUp(ctx)
	defer done()
	_, err := d.ses.c.js.PublishMsg(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("publish dead letter to %s: with the headers that say where it comes from it is larger than the broker's max_payload; raise it: %w", subject, err)
	}
	if err != nil {
		return fmt.Errorf("publish dead letter to %s: %w", subject, why(ctx, err))
	}
	return nil
}
