package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
)

// fetching is a mail that is being read. Until Close it holds the connection:
// the client's reading goroutine waits for the reader of the literal.
type fetching struct {
	s       *source
	ctx     context.Context // of the reading
	command *imapclient.FetchCommand
	literal io.Reader
	// left is what is still to come, by the server's own word.
	left    int64
	ended   bool
	failed  error
	release func()
	once    sync.Once
}

// fetch asks for a mail, without marking it as seen, and goes as far as the
// beginning of its content.
func (s *source) fetch(ctx context.Context, se *session, r ref) (*fetching, error) {
	if se.validity != r.validity {
		return nil, s.gone(r)
	}
	command := se.client.Fetch(imap.UIDSetNum(r.uid), &imap.FetchOptions{
		UID:         true,
		BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	})
	m := command.Next()
	if m == nil {
		if err := command.Close(); err != nil {
			return nil, err
		}
		return nil, s.gone(r)
	}
	for item := m.Next(); item != nil; item = m.Next() {
		section, ok := item.(imapclient.FetchItemDataBodySection)
		if ok && section.Literal != nil {
			return &fetching{s: s, ctx: ctx, command: command, literal: section.Literal, left: section.Literal.Size()}, nil
		}
	}
	if err := command.Close(); err != nil {
		return nil, err
	}
	return nil, &imap.Error{Type: imap.StatusResponseTypeNo, Text: fmt.Sprintf("no content for UID %d", r.uid)}
}

// Read never touches the literal again after an error: from then on the client's
// reading goroutine uses what is beneath it.
func (f *fetching) Read(p []byte) (int, error) {
	if f.failed != nil {
		return 0, f.failed
	}
	n, err := f.literal.Read(p)
	f.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && f.left == 0:
		f.ended = true
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	f.failed = fmt.Errorf("mail broke off: %w", mail.Ended(f.ctx, err))
	return n, f.failed
}

// Close fails if the mail was not read to its end, or if the server says at the
// end that something was wrong.
func (f *fetching) Close() error {
	f.once.Do(func() {
		if f.ended {
			if err := f.command.Close(); err != nil {
				f.failed = fmt.Errorf("end of mail: %w", cleaned(f.s.props, mail.Ended(f.ctx, err)))
				if !said(err) {
					f.s.drop()
				}
			}
			f.leave()
			return
		}
		// First the socket: the rest of a long mail is not waited for. Then what is
		// left of the literal, which the client's reading goroutine waits for. The
		// command itself ends with the client; closing it would read the literal.
		_ = f.s.session.conn.Close()
		if f.failed == nil {
			_, _ = io.Copy(io.Discard, f.literal)
			f.failed = errors.New("mail was not read to its end")
		}
		f.s.drop()
		f.leave()
	})
	return f.failed
}

func (f *fetching) leave() {
	f.release()
	f.s.free()
}
