package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
	"github.com/fairlead-io/fairlead/sdk"
)

// idleEnd is how long a session without work lasts. It holds the maildrop's lock,
// which keeps others out: other clients, and the next owner.
const idleEnd = 2 * time.Second

// closeTime bounds the farewell to a session that has nothing left to do.
const closeTime = 2 * time.Second

// source is one maildrop. It has at most one session at a time, which it begins
// when needed and ends when a listing, a flush or idleness asks for it.
type source struct {
	props   receiveProperties
	tls     *tls.Config // nil without TLS
	log     *slog.Logger
	idleEnd time.Duration

	// busyCh holds a token while somebody uses the session and what follows it.
	busyCh chan struct{}
	// session is nil while there is none.
	session *session
	// lost says why deletions of an ended session do not count, until Flush tells.
	lost error
	// known are the UIDLs of the latest listing.
	known map[string]bool

	mu sync.Mutex
	// view is what the session lists; nil without one.
	view []sdk.Item
	// opens counts the mails that are being read or wait for it.
	opens int

	touchCh chan struct{} // the session was used
	endCh   chan struct{} // closed by Close
	running sync.WaitGroup
}

var _ sdk.Batcher = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	cfg, err := p.TLSConfig()
	if err != nil {
		return nil, err
	}
	return newSource(p, cfg, env, idleEnd), nil
}

func newSource(p receiveProperties, cfg *tls.Config, env sdk.Env, idle time.Duration) *source {
	s := &source{
		props: p, tls: cfg, log: env.Log, idleEnd: idle,
		busyCh:  make(chan struct{}, 1),
		touchCh: make(chan struct{}, 1),
		endCh:   make(chan struct{}),
	}
	s.running.Go(s.watchIdle)
	return s
}

// acquire waits for the session to be free.
func (s *source) acquire(ctx context.Context) error {
	select {
	case s.busyCh <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// free ends acquire.
func (s *source) free() {
	<-s.busyCh
	select {
	case s.touchCh <- struct{}{}:
	default:
	}
}

// List begins a new session, since only that sees new mails. While mails of the
// present one are being read, or deletions wait for its end, it says again what
// that session holds.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	if items := s.viewWhileReading(); items != nil {
		return items, nil
	}
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.free()
	if s.session != nil {
		if items := s.viewWhileReading(); items != nil {
			return items, nil
		}
		if len(s.session.deleted) > 0 {
			return s.session.items(s.props), nil
		}
		_ = s.quit(ctx) // nothing depends on it
	}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	items := s.session.items(s.props)
	if !s.learn(items) {
		_ = s.quit(ctx)
	}
	return items, nil
}

// viewWhileReading is nil unless a mail of a session is being read.
func (s *source) viewWhileReading() []sdk.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens == 0 {
		return nil
	}
	return s.view
}

// learn reports whether the listing has anything that the one before had not.
func (s *source) learn(items []sdk.Item) (news bool) {
	known := make(map[string]bool, len(items))
	for _, item := range items {
		known[item.Key] = true
		news = news || !s.known[item.Key]
	}
	s.known = known
	return news
}

// begin makes sure that there is a session.
func (s *source) begin(ctx context.Context) error {
	if s.session != nil {
		return nil
	}
	se, err := s.openSession(ctx)
	if err != nil {
		return err
	}
	s.session = se
	s.mu.Lock()
	s.view = se.items(s.props)
	s.mu.Unlock()
	return nil
}

// quit ends the session in the way that makes deletions count.
func (s *source) quit(ctx context.Context) error {
	se := s.forget()
	release := se.bind(ctx)
	defer release()
	if err := se.quit(); err != nil {
		return mail.Ended(ctx, err)
	}
	return nil
}

// drop ends a session that is of no use any more. Deletions in it have not
// happened, and the next Flush says so.
func (s *source) drop(why error) {
	se := s.forget()
	se.close()
	if len(se.deleted) > 0 && s.lost == nil {
		s.lost = fmt.Errorf("session ended before its %d deletions were confirmed: %w", len(se.deleted), why)
	}
}

func (s *source) forget() *session {
	se := s.session
	s.session = nil
	s.mu.Lock()
	s.view = nil
	s.mu.Unlock()
	return se
}

// withMail carries out one command about a mail, by the number that it has in the
// present session. If that session was there before and fails, and nothing is
// lost with it, a new one gets the command again: the server may have ended the
// old one, or another client may have removed the mail.
func (s *source) withMail(ctx context.Context, uidl, verb string) error {
	for {
		fresh := s.session == nil
		if err := s.begin(ctx); err != nil {
			return err
		}
		number, ok := s.session.numbers[uidl]
		if !ok || s.session.deleted[uidl] && verb == "RETR" {
			return sdk.Gone(fmt.Errorf("mail with UIDL %s is not in the maildrop any more", uidl))
		}
		if s.session.deleted[uidl] {
			return nil
		}
		release := s.session.bind(ctx)
		_, err := s.session.command(fmt.Sprintf("%s %d", verb, number))
		release()
		if err == nil {
			return nil
		}
		again := !fresh && len(s.session.deleted) == 0 && ctx.Err() == nil
		if isRefusal(err) {
			if again {
				_ = s.quit(ctx)
			}
		} else {
			s.drop(err)
		}
		if !again {
			return fmt.Errorf("%s %d (UIDL %s): %w", verb, number, uidl, mail.Ended(ctx, err))
		}
	}
}

// Open reads a mail. The session belongs to it until its content is closed.
func (s *source) Open(ctx context.Context, item sdk.Item) (*sdk.Content, error) {
	s.reading(+1)
	if err := s.acquire(ctx); err != nil {
		s.reading(-1)
		return nil, err
	}
	if err := s.withMail(ctx, item.Key, "RETR"); err != nil {
		s.reading(-1)
		s.free()
		return nil, err
	}
	r := &retrieval{
		mailReader: mailReader{r: s.session.r},
		s:          s, ctx: ctx,
		release: s.session.bind(ctx),
	}
	return mail.Open(r, s.props.Content, item.Key)
}

func (s *source) reading(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens += n
}

// retrieval is a mail that is being read. Until Close it holds the session.
type retrieval struct {
	mailReader
	s       *source
	ctx     context.Context // of the reading
	release func()
	failed  error
	once    sync.Once
}

func (r *retrieval) Read(p []byte) (int, error) {
	n, err := r.mailReader.Read(p)
	if err != nil && !r.done {
		r.failed = fmt.Errorf("mail broke off: %w", mail.Ended(r.ctx, err))
		return n, r.failed
	}
	return n, err
}

// Close fails if the mail was not read to its end. Then the rest of it is still
// to come and the session of no use.
func (r *retrieval) Close() error {
	r.once.Do(func() {
		r.release()
		if !r.done {
			if r.failed == nil {
				r.failed = errors.New("mail was not read to its end")
			}
			r.s.drop(r.failed)
		}
		r.s.reading(-1)
		r.s.free()
	})
	return r.failed
}

// Settle marks a mail as deleted. Flush makes it so.
func (s *source) Settle(ctx context.Context, item sdk.Item) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.free()
	if err := s.withMail(ctx, item.Key, "DELE"); err != nil {
		return err
	}
	s.session.deleted[item.Key] = true
	return nil
}

// Flush ends the session if anything was deleted in it. It fails if a session
// with deletions ended in any other way since the last Flush.
func (s *source) Flush(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.free()
	if s.session != nil && len(s.session.deleted) > 0 {
		n := len(s.session.deleted)
		if err := s.quit(ctx); err != nil {
			s.lost = errors.Join(s.lost, fmt.Errorf("%d deletions: %w", n, err))
		}
	}
	err := s.lost
	s.lost = nil
	return err
}

// watchIdle ends sessions that have no work.
func (s *source) watchIdle() {
	timer := time.NewTimer(s.idleEnd)
	defer timer.Stop()
	for {
		select {
		case <-s.endCh:
			return
		case <-s.touchCh:
			timer.Reset(s.idleEnd)
		case <-timer.C:
			s.endIdle()
		}
	}
}

// endIdle leaves a session with deletions to the Flush that must follow.
func (s *source) endIdle() {
	select {
	case s.busyCh <- struct{}{}:
	default:
		return // in use; its end touches
	}
	defer func() { <-s.busyCh }()
	if s.session == nil || len(s.session.deleted) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := s.quit(ctx); err != nil {
		s.log.Debug("end of an idle session", "error", err)
	}
}

// Close ends the session. Deletions that no Flush has asked for do not happen.
func (s *source) Close() error {
	close(s.endCh)
	s.running.Wait()
	if s.session == nil {
		return nil
	}
	if len(s.session.deleted) > 0 {
		s.drop(errors.New("the source was closed"))
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = s.quit(ctx) // what was to be confirmed has been
	return nil
}
