package main

import (
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
	letter
	ses   *session
	reply string // where answers go

	// settling is set when Settle was called: from then on only Settle answers.
	settling atomic.Bool
	// beaten is the boot clock at the last sign of life.
	beaten atomic.Int64

	// beatMu is held while a sign of life is published, so that none goes out after
	// an answer that it would undo.
	beatMu sync.Mutex
	quiet  bool
}

// handle delivers one message and, if it could not be handed over, gives it back.
func (ses *session) handle(ctx context.Context, msg *nats.Msg, deliver sdk.Deliver) {
	meta, err := msg.Metadata()
	if err != nil {
		ses.env.Log.Error("broker delivered a message without metadata", "error", err)
		return
	}
	d := &delivery{
		letter: letter{
			stream: meta.Stream, seq: meta.Sequence.Stream, stored: meta.Timestamp,
			subject: msg.Subject, header: msg.Header, data: msg.Data,
		},
		ses: ses, reply: msg.Reply,
	}
	d.beaten.Store(int64(bootclock.Now()))
	ses.beats.add(d)
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
		ses.env.Log.Debug("message not given back", "key", d.key(), "error", err)
	}
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
	return fmt.Errorf("settle %s: unknown verdict %d", d.key(), v)
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
	if _, err := d.ses.c.ask(ctx, &nats.Msg{Subject: d.reply, Data: []byte(text)}); err != nil {
		word, _, _ := strings.Cut(text, " ")
		return fmt.Errorf("%s of message %s: no confirmation by the broker: %w", word, d.key(), err)
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

// deadID is the message ID of the dead letter of a message with this key.
func deadID(key string) string { return "dead:" + key }

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
	msg := &nats.Msg{Subject: subject, Data: d.data, Header: nats.Header{}}
	for key, values := range d.header {
		// Nats- headers are orders to the broker (expiry, roll-up, expectations).
		if !strings.HasPrefix(strings.ToLower(key), "nats-") {
			msg.Header[key] = values
		}
	}
	msg.Header.Set(headerDeadStream, d.stream)
	msg.Header.Set(headerDeadSubject, escapeValue(d.subject))
	msg.Header.Set(headerDeadSequence, fmt.Sprint(d.seq))
	if id := headerValue(d.header, jetstream.MsgIDHeader); id != "" {
		msg.Header.Set(headerDeadID, escapeValue(id))
	}
	msg.Header.Set(jetstream.MsgIDHeader, deadID(d.key()))
	err := d.ses.c.publish(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("publish dead letter to %s: with the headers that say where it comes from it is larger than the broker's max_payload; raise it: %w", subject, err)
	}
	if err != nil {
		return fmt.Errorf("publish dead letter to %s: %w", subject, err)
	}
	return nil
}
