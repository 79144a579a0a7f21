package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Probe tells whether a message has arrived, by what is at the server:
//
//   - A name that contains the message's ID is written by nobody else, and only
//     whole: if a file of the right size has it, the message has arrived.
//   - Under any other name it has arrived if the file has the message's very
//     content and is not older than the message.
//   - A temporary file means that the last attempt did not come to its rename:
//     absent.
//   - If there is neither, the message may have arrived and been taken away since
//     by whom it was meant for: unknown, unless all attempts were made by this
//     process and failed earlier.
//   - What was appended to a file leaves no trace of its own: unknown, with the same
//     exception.
func (k *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	if k.sent.knownAbsent(m) {
		return sdk.Absent, nil
	}
	at, err := k.place(m)
	if err != nil {
		return sdk.Unknown, err
	}
	if k.appends() {
		return sdk.Unknown, nil
	}
	arrival := sdk.Unknown
	err = k.pool.with(ctx, func(c *session) (err error) {
		arrival, err = k.probe(c, m, at)
		return err
	})
	if err != nil {
		return sdk.Unknown, fmt.Errorf("probe %s: %w", at.Name, err)
	}
	return arrival, nil
}

func (k *sink) probe(c *session, m *sdk.Message, at place) (sdk.Arrival, error) {
	for _, name := range at.Names() {
		if !k.unique(at, name) {
			continue
		}
		if arrived, err := k.holds(c, m, at, name); arrived || err != nil {
			return sdk.Arrived, err
		}
	}
	temporary, err := c.size(c.absolute(at.temporary), at.uploadName)
	switch {
	case err != nil:
		return sdk.Unknown, err
	case temporary.exists:
		return sdk.Absent, nil
	case k.unique(at, at.Name):
		return sdk.Unknown, nil
	}
	same, err := k.holds(c, m, at, at.Name)
	if err != nil || !same {
		return sdk.Unknown, err
	}
	return sdk.Arrived, nil
}

// holds reports whether the file of this name is the message's: by its size if nobody
// else writes it, else by its content.
func (k *sink) holds(c *session, m *sdk.Message, at place, name string) (bool, error) {
	dir := c.absolute(at.Directory)
	if !k.unique(at, name) {
		return k.sameContent(c, m, dir, name)
	}
	f, err := c.size(dir, name)
	return err == nil && f.exists && (f.size == m.Body().Size || k.props.ascii()), err
}

// sameContent reports whether the file under a name that others may use too
// holds this message: the size, a time not before the message was made, and the
// content by its SHA-256 must all say so. A server clock that runs behind ours
// makes the answer no, which is safe.
func (k *sink) sameContent(c *session, m *sdk.Message, dir, name string) (bool, error) {
	body := m.Body()
	f, err := c.look(dir, name)
	if err != nil || !f.exists || f.size != body.Size {
		return false, err
	}
	// Servers tell seconds.
	if !f.modified.IsZero() && !k.props.MadeFor(m, f.modified, time.Second) {
		return false, nil
	}
	if answer, err := k.sameByServer(c, m, join(dir, name)); answer != nil || err != nil {
		return answer != nil && *answer, err
	}
	want, err := digest(body)
	if err != nil {
		return false, found("read the message's body: %w", err)
	}
	response, err := c.ftp.Retr(join(dir, name))
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, response)
	if err != nil {
		// The rest of it is still on its way: give the connection up.
		c.kill()
		return false, err
	}
	if err := response.Close(); err != nil {
		return false, err
	}
	return n == body.Size && bytes.Equal(hash.Sum(nil), want), nil
}

// sameByServer compares by a checksum that the server takes, if it takes one that is
// strong enough to be proof; else the answer is nil.
func (k *sink) sameByServer(c *session, m *sdk.Message, path string) (*bool, error) {
	if k.noHash.Load() {
		return nil, nil
	}
	h, err := k.hashCommand(c, hashCommands[:proof])
	if h == nil || err != nil {
		return nil, err
	}
	sums := files.NewSums(h.sum)
	content, err := m.Body().Open()
	if err != nil {
		return nil, found("read the message's body: %w", err)
	}
	defer content.Close()
	if _, err := io.Copy(sums, content); err != nil {
		return nil, found("read the message's body: %w", err)
	}
	got, err := k.serverSum(c, h, path)
	if err != nil && isRefusal(err) {
		return nil, nil // it may let us read the file all the same
	}
	same := bytes.Equal(got, sums.Sum(h.sum))
	return &same, err
}

func digest(p *sdk.MessagePart) ([]byte, error) {
	if len(p.SHA256) == sha256.Size {
		return p.SHA256, nil
	}
	r, err := p.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}
