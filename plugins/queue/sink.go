package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

// Error codes of JetStream's publish answers that nats.go has no names for.
const (
	codeAccountResources jetstream.ErrorCode = 10002
	codeInsufficient     jetstream.ErrorCode = 10023
	codeMemoryExceeded   jetstream.ErrorCode = 10028
	codeStorageExceeded  jetstream.ErrorCode = 10047
	codeStreamNotMatch   jetstream.ErrorCode = 10060
	codeStoreFailed      jetstream.ErrorCode = 10077
	codeHeaderExceeds    jetstream.ErrorCode = 10097
	codeStreamSealed     jetstream.ErrorCode = 10109
)

// sink publishes to one subject of one stream.
type sink struct {
	p    sendProperties
	env  sdk.Env
	link *link

	mu      sync.Mutex
	checked *conn // on which the stream was found fit, if any
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	return &sink{p: p, env: env, link: newLink(p.connection, env.Log)}, nil
}

// Close implements sdk.Sink.
func (s *sink) Close() error {
	s.link.close()
	return nil
}

// Send publishes the message under its ID and waits until the stream has confirmed
// it.
func (s *sink) Send(ctx context.Context, m *sdk.Message) error {
	if n := len(m.Parts); n != 1 {
		return sdk.Permanent(fmt.Errorf("message has %d parts and a queue message holds one; route it to another adapter", n))
	}
	ctx, cancel := context.WithTimeout(ctx, s.p.Timeout.D())
	defer cancel()
	c, err := s.link.connect(ctx)
	if err != nil {
		return err
	}
	if err := s.checkStream(ctx, c); err != nil {
		return err
	}
	msg, err := s.message(c, m)
	if err != nil {
		return err
	}
	// The broker refuses it if it would go into another stream than the header says,
	// and answers "duplicate" with success if it has the ID already.
	if err := c.publish(ctx, msg); err != nil {
		return s.publishError(err)
	}
	return nil
}

// checkStream makes sure, once per connection, that the stream is there and takes
// the subject. Whatever it returns has had no effect on the message.
func (s *sink) checkStream(ctx context.Context, c *conn) error {
	s.mu.Lock()
	done := s.checked == c
	s.mu.Unlock()
	if done {
		return nil
	}
	stream, err := c.js.Stream(ctx, s.p.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && s.p.Create {
		stream, err = c.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:       s.p.Stream,
			Subjects:   []string{s.p.Subject},
			Storage:    jetstream.FileStorage,
			Duplicates: s.p.DuplicateWindow.D(),
		})
	}
	if err != nil {
		return sdk.Disconnected(streamError(s.p.Stream, err))
	}
	takes := stream.CachedInfo().Config.Subjects
	if !slices.ContainsFunc(takes, func(one string) bool { return subjectCovers(one, s.p.Subject) }) {
		return sdk.Disconnected(fmt.Errorf("stream %q does not take subject %q, only %s; add it to the stream", s.p.Stream, s.p.Subject, strings.Join(takes, ", ")))
	}
	s.mu.Lock()
	s.checked = c
	s.mu.Unlock()
	return nil
}

// forgetStream makes the next send look at the stream again.
func (s *sink) forgetStream() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = nil
}

func streamError(name string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %q does not exist on the broker; create it there, or set create: true on a send port", name)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return errors.New("broker answers no JetStream request; enable JetStream there for this account")
	}
	return fmt.Errorf("stream %q: %w", name, err)
}

// message reads the content, if it fits. A queue message travels in one piece, so
// it is in memory whole; the broker's limit bounds it to 64 MiB.
func (s *sink) message(c *conn, m *sdk.Message) (*nats.Msg, error) {
	msg := &nats.Msg{Subject: s.p.Subject, Header: encodeHeaders(m)}
	msg.Header.Set(jetstream.MsgIDHeader, m.ID)
	msg.Header.Set(jetstream.ExpectedStreamHeader, s.p.Stream)
	headers := headerBytes(msg.Header)
	if headers > maxHeaderBytes {
		return nil, sdk.Permanent(fmt.Errorf("message's context needs %d bytes of headers and JetStream takes %d", headers, maxHeaderBytes))
	}
	size, limit := m.Body().Size, c.nc.MaxPayload()
	if size+int64(headers) > limit {
		return nil, tooLarge(size, headers, limit)
	}
	body, err := m.Body().Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer body.Close()
	msg.Data = make([]byte, size)
	if _, err := io.ReadFull(body, msg.Data); err != nil {
		return nil, fmt.Errorf("read content of %d bytes: %w", size, err)
	}
	return msg, nil
}

func tooLarge(size int64, headers int, limit int64) error {
	return sdk.Permanent(fmt.Errorf("content of %d bytes with %d bytes of headers is more than the broker takes in one message, %d bytes; raise max_payload in the broker's configuration (at most 64MB), or send it through another adapter", size, headers, limit))
}

// publishError sorts an error of a publish: what certainly had no effect is marked,
// everything else may have arrived.
func (s *sink) publishError(err error) error {
	err = fmt.Errorf("publish to %s: %w", s.p.Subject, err)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		// The limit has fallen since it was looked at, with a reconnect.
		return sdk.Permanent(fmt.Errorf("%w; raise max_payload in the broker's configuration", err))
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return sdk.Disconnected(fmt.Errorf("publish to %s: connection to broker is down", s.p.Subject))
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		s.forgetStream()
		return sdk.Disconnected(fmt.Errorf("%w: no stream takes the subject now", err))
	case errors.As(err, &api):
		return s.refused(err, api)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no confirmation within %s", err, s.p.Timeout)
	}
	return err
}

// refused sorts what the stream itself answered.
func (s *sink) refused(err error, api *jetstream.APIError) error {
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return sdk.Permanent(fmt.Errorf("%w; raise max_msg_size of stream %q", err, s.p.Stream))
	case codeHeaderExceeds:
		return sdk.Permanent(err)
	case codeStreamNotMatch:
		s.forgetStream()
		return sdk.Disconnected(fmt.Errorf("%w: subject belongs to another stream than %q", err, s.p.Stream))
	case codeStreamSealed, codeAccountResources, codeInsufficient, codeMemoryExceeded, codeStorageExceeded,
		jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return sdk.Disconnected(err)
	case codeStoreFailed:
		// A full stream that refuses new messages (discard: new) says so in words.
		if strings.Contains(api.Description, "exceeded") {
			return sdk.Disconnected(err)
		}
	}
	return err
}
