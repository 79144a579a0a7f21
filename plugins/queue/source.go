package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// pullHeartbeat is how often the broker shows that a pull is known to it; after
	// two missing ones the pull is made again.
	pullHeartbeat = 2 * time.Second
	// pullTime is how long the broker keeps a pull that it has no message for. Between
	// two pulls the consumer is looked at.
	pullTime = 6 * time.Second
	// pullPause keeps a broker that refuses pulls from being asked without end.
	pullPause = 250 * time.Millisecond
)

// source consumes from one durable consumer.
type source struct {
	p    receiveProperties
	env  sdk.Env
	link *link

	// streamSeen is the creation time of the stream on which the consumer has been
	// seen. Used by Run alone.
	streamSeen time.Time
}

var _ sdk.PushedSource = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PushedSource, error) {
	return &source{p: p, env: env, link: newLink(p.connection, env.Log)}, nil
}

// Close implements sdk.PushedSource.
func (s *source) Close() error {
	s.link.close()
	return nil
}

// Run pulls one message after the other, as long as fewer than prefetch are held,
// and delivers each in a goroutine of its own. One at a time, because a broker
// drops a client that it has to buffer too many large messages for. It returns
// when ctx has ended, the connection was given up, or stream or consumer are not
// what they must be, and then waits for the deliveries under way.
func (s *source) Run(ctx context.Context, deliver sdk.Deliver) error {
	ses, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer ses.expire()
	var deliveries sync.WaitGroup
	defer deliveries.Wait() // they answer in this session
	slots := make(chan struct{}, s.p.Prefetch)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		msg, err := ses.next(ctx)
		if ctx.Err() != nil && msg == nil {
			return nil
		}
		if err != nil {
			return err
		}
		deliveries.Go(func() {
			defer func() { <-slots }()
			ses.handle(ctx, msg, deliver)
		})
	}
}

// session is one connection's view of the consumer.
type session struct {
	p        receiveProperties
	env      sdk.Env
	c        *conn
	consumer jetstream.Consumer
	// created is when the consumer was made: another time means another consumer.
	created time.Time
	// ackWait is the consumer's own.
	ackWait time.Duration

	mu         sync.Mutex
	verified   time.Time // when consumer was last seen to be the same
	reconnects uint64    // of the connection at that time

	// over ends with expire: when the consumer is gone, and with Run. Nothing of the
	// session may be answered any more then.
	over   context.Context
	expire context.CancelFunc
}

func (s *source) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, s.p.Timeout.D())
	defer cancel()
	c, err := s.link.connect(ctx)
	if err != nil {
		return nil, err
	}
	before := c.nc.Stats().Reconnects
	stream, err := c.js.Stream(ctx, s.p.Stream)
	if err != nil {
		return nil, sdk.Disconnected(streamError(s.p.Stream, err))
	}
	if err := s.checkSuspension(ctx, c, stream.CachedInfo()); err != nil {
		return nil, sdk.Disconnected(err)
	}
	consumer, err := s.openConsumer(ctx, stream)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("consumer %q of stream %q: %w", s.p.Consumer, s.p.Stream, err))
	}
	s.streamSeen = stream.CachedInfo().Created
	info := consumer.CachedInfo()
	ses := &session{p: s.p, env: s.env, c: c, consumer: consumer, created: info.Created, ackWait: info.Config.AckWait}
	for _, wait := range info.Config.BackOff { // takes the place of ack_wait
		ses.ackWait = min(ses.ackWait, wait)
	}
	ses.verified, ses.reconnects = time.Now(), before
	ses.over, ses.expire = context.WithCancel(context.Background())
	return ses, nil
}

// openConsumer finds the consumer, or makes it. One that has disappeared is not
// made again on the same stream: it would begin with messages that were delivered
// long ago.
func (s *source) openConsumer(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	consumer, err := stream.Consumer(ctx, s.p.Consumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		if s.streamSeen.Equal(stream.CachedInfo().Created) {
			return nil, errors.New("was deleted while in use; create it anew so that it starts where it should go on, and restart the location")
		}
		return stream.CreateConsumer(ctx, s.consumerConfig())
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		return nil, errors.New("is a push consumer; want a durable pull consumer")
	case err != nil:
		return nil, err
	}
	return consumer, s.checkConsumer(consumer.CachedInfo().Config)
}

func (s *source) consumerConfig() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable:       s.p.Consumer,
		FilterSubject: s.p.Subject,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.p.AckWait.D(),
		MaxDeliver:    -1,
	}
	if s.p.Prefetch == 1 {
		cfg.MaxAckPending = 1
	}
	return cfg
}

// checkConsumer refuses a consumer that somebody else made and that would lose
// messages or give the wrong ones.
func (s *source) checkConsumer(cfg jetstream.ConsumerConfig) error {
	filters := cfg.FilterSubjects
	if cfg.FilterSubject != "" {
		filters = append(filters, cfg.FilterSubject)
	}
	switch {
	case cfg.Durable == "":
		return errors.New("is not durable; the broker would forget what was delivered")
	case cfg.AckPolicy != jetstream.AckExplicitPolicy:
		return fmt.Errorf("has the acknowledgement policy %s, want explicit", cfg.AckPolicy)
	case cfg.MaxDeliver > 0:
		return fmt.Errorf("gives a message up after %d deliveries (max_deliver), settled or not; want no limit, -1", cfg.MaxDeliver)
	case cfg.HeadersOnly:
		return errors.New("delivers headers only; want the content too")
	case s.p.Subject != "" && (len(filters) != 1 || filters[0] != s.p.Subject):
		return fmt.Errorf("is filtered by %q, but the location's subject is %q; change one of them", filters, s.p.Subject)
	}
	return nil
}

// checkSuspension makes sure that a suspended message will not be lost.
func (s *source) checkSuspension(ctx context.Context, c *conn, info *jetstream.StreamInfo) error {
	subject := s.p.DeadLetterSubject
	if subject == "" {
		if info.Config.Retention != jetstream.LimitsPolicy {
			return fmt.Errorf("stream %q removes a message as soon as it is dealt with (retention %s), so a suspended one would be lost; set dead_letter_subject", s.p.Stream, info.Config.Retention)
		}
		return nil
	}
	owner, err := c.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("no stream takes dead_letter_subject %q; create one", subject)
	}
	if err != nil {
		return fmt.Errorf("look for the stream of dead_letter_subject %q: %w", subject, err)
	}
	if owner == s.p.Stream && (s.p.Subject == "" || subjectCovers(s.p.Subject, subject)) {
		return fmt.Errorf("dead_letter_subject %q leads back to this location; use a subject of another stream", subject)
	}
	return nil
}

// next returns the next message. It waits out reconnects, and for the time of one
// timeout also a broker that has restarted and does not serve its streams yet.
func (ses *session) next(ctx context.Context) (jetstream.Msg, error) {
	var since time.Time // when the trouble began
	for ctx.Err() == nil {
		if err := ses.c.waitConnected(ctx); err != nil {
			return nil, err
		}
		msg, err := ses.pull(ctx)
		switch {
		case err == nil:
			return msg, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, nats.ErrTimeout): // nothing came
			since = time.Time{}
			continue
		case gone(err):
			ses.expire()
			return nil, sdk.Disconnected(fmt.Errorf("consumer %q of stream %q: %w", ses.p.Consumer, ses.p.Stream, err))
		case !passing(err):
			return nil, fmt.Errorf("pull from consumer %q of stream %q: %w", ses.p.Consumer, ses.p.Stream, err)
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > ses.p.Timeout.D():
			return nil, sdk.Disconnected(fmt.Errorf("pull from consumer %q of stream %q: %w", ses.p.Consumer, ses.p.Stream, err))
		}
		ses.env.Log.Debug("pull is made again", "reason", err)
		pause(ctx, pullPause)
	}
	return nil, ctx.Err()
}

// pull asks the broker for one message.
func (ses *session) pull(ctx context.Context) (jetstream.Msg, error) {
	if err := ses.verify(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	defer context.AfterFunc(ses.over, cancel)()
	ctx, done := ses.c.whileUp(ctx)
	defer done()
	msg, err := ses.consumer.Next(jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
	if errors.Is(err, nats.ErrNoResponders) {
		ses.doubt() // the consumer may be gone, or the broker may have just started
	}
	return msg, why(ctx, err)
}

// gone reports whether err says that the consumer is not there or not the same.
func gone(err error) bool {
	for _, one := range []error{errAnew, jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, jetstream.ErrStreamNotFound} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// passing reports whether err may be over soon.
func passing(err error) bool {
	for _, one := range []error{
		errLost, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrDisconnected,
		jetstream.ErrNoHeartbeat, jetstream.ErrServerShutdown, jetstream.ErrConsumerLeadershipChanged,
		jetstream.ErrJetStreamNotEnabled, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// verifyEvery is how long it is taken for granted, on an unbroken connection, that
// the consumer is still the same.
const verifyEvery = time.Second

// errAnew says that a session's consumer has been replaced by another one.
var errAnew = errors.New("was made anew; what was received from the old one cannot be answered any more")

// verify makes sure that the consumer is the one that the session was opened on. If
// stream or consumer were deleted and made again, the same sequence number is
// another message, and acknowledging it would lose that one.
func (ses *session) verify(ctx context.Context) error {
	reconnects := ses.c.nc.Stats().Reconnects
	ses.mu.Lock()
	fresh := ses.reconnects == reconnects && time.Since(ses.verified) < verifyEvery
	ses.mu.Unlock()
	if ses.over.Err() != nil {
		return errAnew
	}
	if fresh {
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ses.p.Timeout.D())
	defer cancel()
	ctx, done := ses.c.whileUp(ctx)
	defer done()
	now, err := ses.c.js.Consumer(ctx, ses.p.Stream, ses.p.Consumer)
	if err != nil {
		return fmt.Errorf("look for the consumer: %w", why(ctx, err))
	}
	if !now.CachedInfo().Created.Equal(ses.created) {
		ses.expire()
		return errAnew
	}
	ses.mu.Lock()
	ses.verified, ses.reconnects = began, reconnects
	ses.mu.Unlock()
	return nil
}

// doubt makes the next verify ask the broker.
func (ses *session) doubt() {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.verified = time.Time{}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
