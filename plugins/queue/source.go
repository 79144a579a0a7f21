package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

// source consumes from one durable consumer.
type source struct {
	p    receiveProperties
	env  sdk.Env
	link *link

	graves *graves

	// sessions end with their last delivery.
	sessions sync.WaitGroup

	// streamSeen is the creation time of the stream on which the consumer has been
	// seen. Used by Run alone.
	streamSeen time.Time
}

var _ sdk.Recaller = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PushedSource, error) {
	return &source{p: p, env: env, link: newLink(p.connection, env.Log), graves: newGraves()}, nil
}

// Close implements sdk.PushedSource.
func (s *source) Close() error {
	s.sessions.Wait() // the SDK has seen the end of every delivery
	s.link.close()
	return nil
}

// Run has the broker send messages, as long as fewer than prefetch are held, and
// delivers each in a goroutine of its own. It returns when ctx has ended, the
// connection was given up, or stream or consumer are not what they must be.
// Deliveries under way go on then: they answer in this session, which ends with the
// last of them.
func (s *source) Run(ctx context.Context, deliver sdk.Deliver) error {
	ses, err := s.open(ctx)
	if err != nil {
		return err
	}
	var p *puller
	p = newPuller(ses, func(m *nats.Msg) {
		go func() { // p waits for its end
			defer p.release(m)
			ses.handle(ctx, m, deliver)
		}()
	})
	err = p.run(ctx)
	p.stop()
	s.sessions.Go(func() {
		p.deliveries.Wait()
		ses.expire()
	})
	return err
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

	// prefetch is the most messages that are held.
	prefetch int
	// maxMsgSize is the stream's, maxBatch, maxBytes and maxExpires the consumer's bounds of
	// requests; 0 or less: none.
	maxMsgSize int32
	maxBatch   int
	maxBytes   int
	maxExpires time.Duration
	// generation is that of the connection when messages were asked for.
	generation atomic.Uint64

	beats beats

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
	before := c.generation()
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
	ses.prefetch = s.prefetch()
	ses.maxMsgSize = stream.CachedInfo().Config.MaxMsgSize
	ses.maxBatch, ses.maxExpires = info.Config.MaxRequestBatch, info.Config.MaxRequestExpires
	ses.maxBytes = info.Config.MaxRequestMaxBytes
	s.sessions.Go(ses.beat)
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

// prefetch is how many messages are held at once: some more than the runtime takes,
// so that it need not wait for the broker.
func (s *source) prefetch() int {
	switch {
	case s.p.Prefetch > 0:
		return s.p.Prefetch
	case s.env.Ordered:
		return 1
	}
	return min(max(minPrefetch, s.env.MaxInFlight+s.env.MaxInFlight/2), maxPrefetch)
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
	if s.p.Prefetch == 1 || s.env.Ordered {
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
	case s.env.Ordered && cfg.MaxAckPending != 1:
		return fmt.Errorf("hands out %s messages at a time (max_ack_pending), so their order gets lost; set it to 1 (`nats consumer edit %s %s --max-pending=1`), or the location's ordered to false", pendingText(cfg.MaxAckPending), s.p.Stream, s.p.Consumer)
	case s.p.Subject != "" && (len(filters) != 1 || filters[0] != s.p.Subject):
		return fmt.Errorf("is filtered by %q, but the location's subject is %q; change one of them", filters, s.p.Subject)
	}
	return nil
}

func pendingText(maxAckPending int) string {
	if maxAckPending <= 0 {
		return "any number of"
	}
	return fmt.Sprintf("up to %d", maxAckPending)
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
		errLost, errRefused, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrDisconnected,
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
	reconnects := ses.c.generation()
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
