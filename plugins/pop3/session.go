package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
	"github.com/fairlead-io/fairlead/sdk"
)

// session is a login and what it sees: a POP3 session never sees mails that come
// after its beginning, and its message numbers hold until its end.
type session struct {
	*client
	mails []listed
	// numbers are the message numbers by UIDL, in this session and no other.
	numbers map[string]int
	// deleted are the UIDLs that DELE was confirmed for. They are still there.
	deleted map[string]bool
}

type listed struct {
	uidl   string
	octets int64
}

// openSession logs in and lists. Errors of the connection are marked as
// [sdk.Disconnected].
func (s *source) openSession(ctx context.Context) (*session, error) {
	c, err := dial(ctx, s.props, s.tls)
	if err != nil {
		return nil, err
	}
	se := &session{client: c, deleted: map[string]bool{}}
	release := c.bind(ctx)
	defer release()
	if err := se.list(); err != nil {
		c.close()
		if isRefusal(err) {
			return nil, err
		}
		return nil, sdk.Disconnected(mail.Ended(ctx, err))
	}
	return se, nil
}

// list asks for UIDLs and sizes. Both have to agree: a listing that is not
// complete would make mails look gone.
func (se *session) list() error {
	octets, err := se.octets()
	if err != nil {
		return err
	}
	if _, err := se.command("UIDL"); err != nil {
		if isRefusal(err) {
			return fmt.Errorf("list UIDLs: %w; without UIDL mails cannot be told apart: use the imap adapter or another server", err)
		}
		return fmt.Errorf("list UIDLs: %w", err)
	}
	se.numbers = make(map[string]int, len(octets))
	seen := 0
	err = readLines(se.r, func(line string) error {
		number, uidl, err := parseEntry(line)
		if err != nil {
			return err
		}
		if err := checkUIDL(uidl); err != nil {
			return err
		}
		size, ok := octets[number]
		if !ok {
			return fmt.Errorf("message %d has a UIDL and is not in LIST", number)
		}
		seen++
		// RFC 1939 lets equal copies of a mail share a UIDL. They are one item.
		if _, twice := se.numbers[uidl]; !twice {
			se.numbers[uidl] = number
			se.mails = append(se.mails, listed{uidl, size})
		}
		return nil
	})
	if err == nil && seen != len(octets) {
		err = fmt.Errorf("%d mails in LIST, %d in UIDL", len(octets), seen)
	}
	if err != nil {
		return fmt.Errorf("list UIDLs: %s", se.props.Clean(err.Error()))
	}
	return nil
}

func (se *session) octets() (map[int]int64, error) {
	if _, err := se.command("LIST"); err != nil {
		return nil, fmt.Errorf("list sizes: %w", err)
	}
	octets := map[int]int64{}
	err := readLines(se.r, func(line string) error {
		number, value, err := parseEntry(line)
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(value, 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("message %d has a size of %.40q", number, value)
		}
		octets[number] = size
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sizes: %s", se.props.Clean(err.Error()))
	}
	return octets, nil
}

// items makes the source's listing of it.
func (se *session) items(p receiveProperties) []sdk.Item {
	items := make([]sdk.Item, len(se.mails))
	for i, m := range se.mails {
		size := m.octets
		if size == 0 {
			size = -1 // a mail has a header: the server does not know
		}
		items[i] = sdk.Item{
			Key:     m.uidl,
			Context: map[string]string{"mail.uid": m.uidl},
			Size:    size,
			Kept:    p.AfterDelivery == afterKeep,
		}
	}
	return items
}
