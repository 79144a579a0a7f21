package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"net"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-message/charset"
	"github.com/emersion/go-sasl"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
)

// session is a login with the mailbox selected. Only one goroutine uses it at a
// time, inside during or between bind and its release: outside of them a silent
// server is nothing unusual, inside it is an error after the time-out. The client
// library itself would wait for ever.
type session struct {
	conn   *mail.Conn
	client *imapclient.Client
	// validity is the mailbox's UIDVALIDITY: UIDs mean nothing without it.
	validity uint32
	// uidExpunge says that the server can remove a single mail (RFC 4315).
	uidExpunge bool
}

// connect logs in and selects the mailbox. Its errors are marked as
// [sdk.Disconnected].
func connect(ctx context.Context, p receiveProperties, cfg *tls.Config) (*session, error) {
	conn, err := p.Dial(ctx, ports)
	if err != nil {
		return nil, p.ConnectError("connect to", mail.Ended(ctx, err))
	}
	se := &session{conn: conn}
	for _, step := range []struct {
		name string
		do   func(context.Context, receiveProperties) error
	}{
		{"connect to", func(ctx context.Context, p receiveProperties) error { return se.greet(ctx, p, cfg) }},
		{"log in to", se.login},
		{"select mailbox " + p.Mailbox + " of", se.choose},
	} {
		if err := se.during(ctx, func() error { return step.do(ctx, p) }); err != nil {
			se.close()
			return nil, p.ConnectError(step.name, cleaned(p, mail.Ended(ctx, err)))
		}
	}
	return se, nil
}

// during carries out commands: the connection is closed when ctx ends or the
// server is silent for the time-out.
func (se *session) during(ctx context.Context, do func() error) error {
	release := se.bind(ctx)
	defer release()
	return do()
}

func (se *session) bind(ctx context.Context) (release func()) {
	_ = se.conn.SetIdle(false) // fails only if it is closed, which the command will tell
	stop := context.AfterFunc(ctx, func() { _ = se.conn.Close() })
	return func() {
		stop()
		_ = se.conn.SetIdle(true)
	}
}

// close ends the connection and waits for the client's reading goroutine, which
// must not be waiting for the reader of a mail.
func (se *session) close() {
	_ = se.conn.Close()
	if se.client != nil {
		_ = se.client.Close()
	}
}

func (se *session) greet(ctx context.Context, p receiveProperties, cfg *tls.Config) (err error) {
	opts := &imapclient.Options{TLSConfig: cfg, WordDecoder: &mime.WordDecoder{CharsetReader: charset.Reader}}
	switch p.TLS {
	case mail.TLSStart:
		// There is no way on without it.
		se.client, err = imapclient.NewStartTLS(se.conn, opts)
		if err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	case mail.TLSImplicit:
		t := tls.Client(se.conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		se.client = imapclient.New(t, opts)
	default:
		se.client = imapclient.New(net.Conn(se.conn), opts)
	}
	return se.client.WaitGreeting()
}

func (se *session) login(_ context.Context, p receiveProperties) error {
	if se.client.State() == imap.ConnStateAuthenticated {
		return nil // PREAUTH
	}
	caps := se.client.Caps()
	var err error
	switch {
	case caps == nil:
		return errors.New("the server does not tell its capabilities")
	case caps.Has(imap.AuthCap("PLAIN")):
		err = se.client.Authenticate(sasl.NewPlainClient("", p.User, p.Password.Reveal()))
	case caps.Has(imap.CapLoginDisabled):
		return errors.New("the server takes no password without TLS; set tls")
	default:
		err = se.client.Login(p.User, p.Password.Reveal()).Wait()
	}
	var said *imap.Error
	if errors.As(err, &said) && said.Type != imap.StatusResponseTypeBye {
		switch said.Code {
		case imap.ResponseCodeUnavailable, imap.ResponseCodeInUse, imap.ResponseCodeLimit, imap.ResponseCodeServerBug:
		default:
			return fmt.Errorf("%w; check user and password", err)
		}
	}
	return err
}

// choose selects the mailbox, for reading only if nothing is to be changed.
func (se *session) choose(_ context.Context, p receiveProperties) error {
	data, err := se.client.Select(p.Mailbox, &imap.SelectOptions{ReadOnly: p.AfterDelivery == afterKeep}).Wait()
	if err != nil {
		return err
	}
	if data.UIDValidity == 0 {
		return errors.New("the mailbox has no UIDVALIDITY: its mails cannot be told apart")
	}
	se.validity = data.UIDValidity
	caps := se.client.Caps()
	se.uidExpunge = caps.Has(imap.CapUIDPlus) || caps.Has(imap.CapIMAP4rev2)

	needed := map[string]imap.Flag{afterMark: imap.FlagSeen, afterDelete: imap.FlagDeleted}[p.AfterDelivery]
	if needed != "" && len(data.PermanentFlags) > 0 && !hasFlag(data.PermanentFlags, needed) && !hasFlag(data.PermanentFlags, imap.FlagWildcard) {
		return fmt.Errorf("the mailbox does not keep the flag %s; use another after_delivery than %s", needed, p.AfterDelivery)
	}
	return nil
}

// hasFlag compares as IMAP does, without regard to case.
func hasFlag(flags []imap.Flag, wanted imap.Flag) bool {
	return slices.ContainsFunc(flags, func(f imap.Flag) bool { return strings.EqualFold(string(f), string(wanted)) })
}

// said reports whether err is an answer of the server that leaves the connection
// usable.
func said(err error) bool {
	var e *imap.Error
	return errors.As(err, &e) && e.Type != imap.StatusResponseTypeBye
}

// cleaned keeps what the server said out of errors as far as it is secret or
// endless. Errors that are not the server's words stay what they are.
func cleaned(p receiveProperties, err error) error {
	var e *imap.Error
	if errors.As(err, &e) {
		return errors.New(p.Clean(err.Error()))
	}
	return err
}
