package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// fetchMax is how many mails are asked about in one command, which keeps it
	// short enough for every server.
	fetchMax = 500
	// closeTime bounds the farewell.
	closeTime = 2 * time.Second
)

// source is one mailbox, over at most one connection at a time. The connection
// stays between polls: nobody is kept out by it.
type source struct {
	props receiveProperties
	tls   *tls.Config // nil without TLS
	log   *slog.Logger

	// busyCh holds a token while somebody uses the session and what follows it.
	busyCh  chan struct{}
	session *session // nil while there is none
	// sizes of the latest listing. They cannot change under a UID.
	sizes map[ref]int64
}

// ref names a mail in the mailbox for ever (RFC 3501, 2.3.1.1).
type ref struct {
	validity uint32
	uid      imap.UID
}

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	cfg, err := p.TLSConfig()
	if err != nil {
		return nil, err
	}
	return &source{props: p, tls: cfg, log: env.Log, busyCh: make(chan struct{}, 1)}, nil
}

// acquire waits for the connection to be free.
func (s *source) acquire(ctx context.Context) error {
	select {
	case s.busyCh <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// free ends acquire.
func (s *source) free() { <-s.busyCh }

// begin makes sure that there is a session. Its errors are marked as
// [sdk.Disconnected].
func (s *source) begin(ctx context.Context) error {
	if s.session != nil {
		select {
		case <-s.session.client.Closed(): // ended by the server since
			s.drop()
		default:
			return nil
		}
	}
	se, err := connect(ctx, s.props, s.tls)
	if err != nil {
		return err
	}
	s.session = se
	return nil
}

func (s *source) drop() {
	s.session.close()
	s.session = nil
}

// attempt carries out commands that may be repeated. If a session that was there
// before fails, they are tried once more in a new one. The caller holds the
// connection.
func (s *source) attempt(ctx context.Context, do func(*session) error) error {
	for {
		before := s.session
		if err := s.begin(ctx); err != nil {
			return err
		}
		fresh := s.session != before
		err := s.session.during(ctx, func() error { return do(s.session) })
		if err == nil || said(err) || sdk.IsGone(err) {
			return cleaned(s.props, err)
		}
		s.drop()
		if fresh || ctx.Err() != nil {
			return cleaned(s.props, mail.Ended(ctx, err))
		}
	}
}

// List searches the mailbox.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.free()
	var items []sdk.Item
	err := s.attempt(ctx, func(se *session) (err error) {
		items, err = s.list(se)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list mailbox %s: %w", s.props.Mailbox, err)
	}
	return items, nil
}

func (s *source) list(se *session) ([]sdk.Item, error) {
	// A server may leave out of a search what it has not told us about before.
	if err := se.client.Noop().Wait(); err != nil {
		return nil, err
	}
	criteria := &imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagDeleted}}
	if s.props.Search == searchUnseen {
		criteria.NotFlag = append(criteria.NotFlag, imap.FlagSeen)
	}
	found, err := se.client.UIDSearch(criteria, nil).Wait()
	if err != nil {
		return nil, err
	}
	uids := found.AllUIDs()
	sizes, err := s.measure(se, uids)
	if err != nil {
		return nil, err
	}
	s.sizes = sizes
	items := make([]sdk.Item, len(uids))
	for i, uid := range uids {
		items[i] = s.item(ref{se.validity, uid}, sizes)
	}
	return items, nil
}

// measure returns the sizes of mails, as far as the server tells them. It asks
// for those that the listing before did not have.
func (s *source) measure(se *session, uids []imap.UID) (map[ref]int64, error) {
	sizes := make(map[ref]int64, len(uids))
	var unknown []imap.UID
	for _, uid := range uids {
		r := ref{se.validity, uid}
		if size, ok := s.sizes[r]; ok {
			sizes[r] = size
		} else {
			unknown = append(unknown, uid)
		}
	}
	for len(unknown) > 0 {
		n := min(len(unknown), fetchMax)
		mails, err := se.client.Fetch(imap.UIDSetNum(unknown[:n]...), &imap.FetchOptions{UID: true, RFC822Size: true}).Collect()
		if err != nil {
			return nil, err
		}
		for _, m := range mails {
			sizes[ref{se.validity, m.UID}] = m.RFC822Size
		}
		unknown = unknown[n:]
	}
	return sizes, nil
}

func (s *source) item(r ref, sizes map[ref]int64) sdk.Item {
	size, ok := sizes[r]
	if !ok || size == 0 {
		size = -1
	}
	uid := strconv.FormatUint(uint64(r.uid), 10)
	return sdk.Item{
		Key:     fmt.Sprintf("%d:%s:%s", r.validity, uid, s.props.Mailbox),
		Context: map[string]string{"mail.uid": uid},
		Size:    size,
		Kept:    s.props.AfterDelivery == afterKeep,
		Handle:  r,
	}
}

// gone says that a mail is not there any more, under its UIDVALIDITY.
func (s *source) gone(r ref) error {
	return sdk.Gone(fmt.Errorf("mail with UID %d is not in mailbox %s any more", r.uid, s.props.Mailbox))
}

// Open reads a mail. The connection belongs to it until its content is closed.
func (s *source) Open(ctx context.Context, item sdk.Item) (*sdk.Content, error) {
	r := item.Handle.(ref)
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	var f *fetching
	err := s.attempt(ctx, func(se *session) (err error) {
		f, err = s.fetch(ctx, se, r)
		return err
	})
	if err != nil {
		s.free()
		return nil, err
	}
	f.release = s.session.bind(ctx)
	return mail.Open(f, s.props.Content, strconv.FormatUint(uint64(r.uid), 10))
}

// Settle marks or deletes a mail, after it has looked at it again.
func (s *source) Settle(ctx context.Context, item sdk.Item) error {
	r := item.Handle.(ref)
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.free()
	return s.attempt(ctx, func(se *session) error {
		mails, err := se.client.Fetch(imap.UIDSetNum(r.uid), &imap.FetchOptions{UID: true, Flags: true}).Collect()
		if err != nil {
			return err
		}
		if len(mails) == 0 || se.validity != r.validity {
			return s.gone(r)
		}
		switch s.props.AfterDelivery {
		case afterMark:
			return se.flag(r.uid, imap.FlagSeen)
		case afterDelete:
			return s.remove(se, r.uid)
		}
		return nil
	})
}

func (se *session) flag(uid imap.UID, flag imap.Flag) error {
	change := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}
	return se.client.Store(imap.UIDSetNum(uid), change, nil).Close()
}

// remove deletes one mail and no other. A server without UIDPLUS can only remove
// everything that is marked as deleted: that is done if it is this mail alone,
// else it stays marked, and whoever marked the others removes it with them.
func (s *source) remove(se *session, uid imap.UID) error {
	if err := se.flag(uid, imap.FlagDeleted); err != nil {
		return err
	}
	if se.uidExpunge {
		return se.client.UIDExpunge(imap.UIDSetNum(uid)).Close()
	}
	found, err := se.client.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagDeleted}}, nil).Wait()
	if err != nil {
		return err
	}
	switch marked := found.AllUIDs(); {
	case len(marked) == 1 && marked[0] == uid:
		return se.client.Expunge().Close()
	case len(marked) > 0:
		s.log.Info("mail stays marked as deleted: the server lacks UIDPLUS, and other mails are marked", "uid", uint32(uid))
	}
	return nil
}

// Close logs out.
func (s *source) Close() error {
	if s.session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = s.session.during(ctx, func() error { return s.session.client.Logout().Wait() }) // nothing depends on it
	s.drop()
	return nil
}
