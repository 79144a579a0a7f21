package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// clockSlack is how far the clocks of the node that made an ID and of the broker
	// may differ.
	clockSlack = 5 * time.Minute
	// scanTimeout bounds the search through a stream's headers.
	scanTimeout = time.Minute
	// scanIdle ends the broker's side of a search that was broken off.
	scanIdle = 30 * time.Second
)

// Probe tells whether the message is in the stream.
//
// While the ID is younger than half the stream's duplicate window, and the stream
// still holds all it took since, sending again cannot double: the broker knows the
// ID, even after a restart, when it rebuilds what it knows from the stream. Half,
// because time passes until the resend, and clocks differ.
//
// Later the stream's headers are searched from the ID's time on. Found is proof of
// arrival. Not found is proof of absence only if nothing was removed meanwhile, by
// limits, by consumers (retention other than limits) or by hand. In all other
// cases the answer is Unknown.
func (s *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	made, ok := idTime(m.ID)
	if !ok {
		return sdk.Unknown, nil
	}
	c, stream, info, err := s.look(ctx)
	if err != nil {
		return 0, err
	}
	if retained(info, made) {
		if withinWindow(info, made) || nothingSince(info, made) {
			return sdk.Absent, nil
		}
	}
	if info.Config.Retention != jetstream.LimitsPolicy {
		// A search would itself count as a consumer there.
		return sdk.Unknown, nil
	}
	found, err := s.search(ctx, c, info, m.ID, made)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		s.env.Log.Warn("search for a message in the stream took too long", "stream", s.p.Stream, "id", m.ID, "limit", scanTimeout)
		return sdk.Unknown, nil
	case err != nil:
		return 0, fmt.Errorf("search stream %q: %w", s.p.Stream, err)
	case found:
		return sdk.Arrived, nil
	}
	// Looked at again after the search: what was removed while it went on may have
	// been the message.
	after, err := freshInfo(ctx, stream, s.p.Timeout.D())
	if err != nil {
		return 0, sdk.Disconnected(streamError(s.p.Stream, err))
	}
	if after.Created.Equal(info.Created) && retained(after, made) {
		return sdk.Absent, nil
	}
	return sdk.Unknown, nil
}

// look connects and asks about the stream.
func (s *sink) look(ctx context.Context) (*conn, jetstream.Stream, *jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, s.p.Timeout.D())
	defer cancel()
	c, err := s.link.connect(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stream, err := c.js.Stream(ctx, s.p.Stream)
	if err != nil {
		return nil, nil, nil, sdk.Disconnected(streamError(s.p.Stream, err))
	}
	return c, stream, stream.CachedInfo(), nil
}

func freshInfo(ctx context.Context, stream jetstream.Stream, timeout time.Duration) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return stream.Info(ctx)
}

// idTime is when a UUIDv7 was made, to the millisecond (RFC 9562, section 5.7).
func idTime(id string) (time.Time, bool) {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}, false
	}
	var ms int64
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms), true
}

// withinWindow reports whether the broker still drops a message with an ID made
// then, with time to spare. Age is measured on the broker's clock.
func withinWindow(info *jetstream.StreamInfo, made time.Time) bool {
	now := info.TimeStamp
	if now.IsZero() { // brokers before 2.10
		now = time.Now()
	}
	age := now.Sub(made)
	return age >= 0 && age < info.Config.Duplicates/2
}

// retained reports whether the stream holds every message that it took since an ID
// was made.
func retained(info *jetstream.StreamInfo, made time.Time) bool {
	st := info.State
	since := made.Add(-clockSlack)
	switch {
	case info.Created.After(made):
		return false // another stream of that name may have held it
	case st.Lost != nil:
		return false
	case st.LastSeq < firstEver(info):
		return true // none ever
	case st.Msgs == 0:
		return !st.LastTime.IsZero() && st.LastTime.Before(since)
	case st.Msgs != st.LastSeq-st.FirstSeq+1:
		return false // some are missing between the first and the last
	}
	return st.FirstSeq == firstEver(info) || st.FirstTime.Before(since)
}

// nothingSince reports whether the stream took nothing at all since an ID was made.
func nothingSince(info *jetstream.StreamInfo, made time.Time) bool {
	st := info.State
	return st.LastSeq < firstEver(info) || !st.LastTime.IsZero() && st.LastTime.Before(made.Add(-clockSlack))
}

// firstEver is the sequence number of the stream's very first message.
func firstEver(info *jetstream.StreamInfo) uint64 { return max(1, info.Config.FirstSeq) }

// search looks for the message among what the stream took from the ID's time up to
// the last message of info. Only headers travel.
func (s *sink) search(ctx context.Context, c *conn, info *jetstream.StreamInfo, id string, made time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	from := made.Add(-clockSlack)
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartTimePolicy,
		OptStartTime:      &from,
		HeadersOnly:       true,
		InactiveThreshold: scanIdle,
		MaxResetAttempts:  3,
	}
	if info.Config.SubjectTransform == nil {
		// With a transform the stored subject is another than the published one.
		cfg.FilterSubjects = []string{s.p.Subject}
	}
	consumer, err := c.js.OrderedConsumer(ctx, s.p.Stream, cfg)
	if err != nil {
		return false, err
	}
	if consumer.CachedInfo().NumPending == 0 {
		return false, nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return false, err
		}
		if is(msg.Headers(), id) {
			return true, nil
		}
		meta, err := msg.Metadata()
		if err != nil {
			return false, err
		}
		if meta.NumPending == 0 || meta.Sequence.Stream >= info.State.LastSeq {
			return false, nil
		}
	}
}

func is(h nats.Header, id string) bool { return h.Get(jetstream.MsgIDHeader) == id }
