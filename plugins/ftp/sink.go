package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// cleanUpMax bounds the removal of what a failed upload left.
const cleanUpMax = 10 * time.Second

// sink is one send port. It sends the body of a message as one file: uploaded
// under a temporary name, measured, then renamed.
type sink struct {
	props sendProperties
	env   sdk.Env
	pool  *pool
	sent  *attempts
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	if p.TemporaryDirectory == "" {
		p.TemporaryDirectory = p.Directory
	}
	connections, err := newPool(p.connection, p.Directory, p.TemporaryDirectory)
	if err != nil {
		return nil, err
	}
	return &sink{props: p, env: env, pool: connections, sent: newAttempts()}, nil
}

// place is where one message goes.
type place struct {
	name, temporary string
}

// place expands the names, the same at every attempt: a probe has to look for what an
// earlier owner wrote. Its errors are permanent.
func (k *sink) place(m *sdk.Message) (place, error) {
	name, err := files.FinalName(k.props.Name, m)
	if err != nil {
		return place{}, err
	}
	return place{name: name, temporary: temporaryName(m.ID)}, nil
}

// Send uploads the message's body. Only when it was the rename whose outcome
// stayed open can the message have arrived after an error.
func (k *sink) Send(ctx context.Context, m *sdk.Message) (err error) {
	at, err := k.place(m)
	if err != nil {
		return err
	}
	if len(m.Parts) > 1 {
		k.env.Log.Warn("message has several parts, sending the body only", "message", m.ID, "parts", len(m.Parts))
	}
	k.sent.begin(m)
	open := true // also if what follows panics
	defer func() { k.sent.end(m, err == nil && !open, open) }()
	broken, stale := false, false
	open, broken, stale, err = k.attempt(ctx, m, at)
	if stale && err != nil && !open && broken && ctx.Err() == nil {
		// One that lay idle may have been closed by the server long ago, and others with
		// it. What breaks on a new one as well has another reason.
		k.pool.dropIdle()
		open, broken, _, err = k.attempt(ctx, m, at)
	}
	if err != nil && !open && broken {
		k.cleanUp(ctx, at)
	}
	return err
}

// attempt sends the message on one connection. open is as in deliver; broken says
// that the connection did not live to clean up, stale that it was used before.
func (k *sink) attempt(ctx context.Context, m *sdk.Message, at place) (open, broken, stale bool, err error) {
	c, err := k.pool.acquire(ctx)
	if err != nil {
		return false, false, false, err
	}
	defer k.pool.release(c)
	stale = c.used
	open, err = k.deliver(ctx, c, m, at)
	if err != nil && !open && !c.isDead() {
		// The connection is in step, so this is the cheapest moment to clean up.
		_ = c.run(ctx, func() error { return c.ftp.Delete(join(c.absolute(k.props.TemporaryDirectory), at.temporary)) })
	}
	return open, c.isDead(), stale, err
}

// deliver returns with open set if the message may have arrived in spite of the
// error.
func (k *sink) deliver(ctx context.Context, c *session, m *sdk.Message, at place) (open bool, err error) {
	err = c.run(ctx, func() error { return k.upload(c, m, at) })
	if err != nil {
		return false, err
	}
	err = c.run(ctx, func() error { return k.rename(c, at) })
	// A refusal means that the rename was not done; silence means nothing.
	return err != nil && !isRefusal(err), err
}

// upload stores the body under the temporary name and measures it there: some
// servers confirm an upload that broke off.
func (k *sink) upload(c *session, m *sdk.Message, at place) error {
	if err := k.checkFree(c, at); err != nil {
		return err
	}
	body := m.Body()
	content, err := body.Open()
	if err != nil {
		return found("open the message's body: %w", err)
	}
	defer content.Close()

	dir := c.absolute(k.props.TemporaryDirectory)
	n, err := c.store(join(dir, at.temporary), content)
	if err != nil {
		return fmt.Errorf("upload to %s: %w", dir, err)
	}
	if n != body.Size {
		return found("the message's body has %d bytes, want %d", n, body.Size)
	}
	f, err := c.size(dir, at.temporary)
	if err != nil {
		return err
	}
	if !f.exists || f.size != body.Size {
		return found("upload to %s: the server has %d of %d bytes", dir, max(f.size, 0), body.Size)
	}
	return nil
}

func (k *sink) checkFree(c *session, at place) error {
	if k.props.IfExists != existsFail {
		return nil
	}
	dir := c.absolute(k.props.Directory)
	f, err := c.size(dir, at.name)
	if err != nil {
		return err
	}
	if f.exists {
		return found("%s exists in %s already; take it away, or set if_exists: replace", at.name, dir)
	}
	return nil
}

// rename gives the upload its final name, in one step on all servers that we
// know of. Those that do not rename over a file are told to delete it first.
func (k *sink) rename(c *session, at place) error {
	from := join(c.absolute(k.props.TemporaryDirectory), at.temporary)
	to := join(c.absolute(k.props.Directory), at.name)
	// Again, as late as possible: FTP has no rename that refuses to replace.
	if err := k.checkFree(c, at); err != nil {
		return err
	}
	err := c.ftp.Rename(from, to)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("rename to %s: %w", to, err)
	if !isRefusal(err) || k.props.IfExists != existsReplace {
		return err
	}
	if f, sizeErr := c.size(c.absolute(k.props.Directory), at.name); sizeErr != nil || !f.exists {
		return errors.Join(err, sizeErr)
	}
	if deleteErr := c.ftp.Delete(to); deleteErr != nil {
		return errors.Join(err, fmt.Errorf("delete what is there: %w", deleteErr))
	}
	if err := c.ftp.Rename(from, to); err != nil {
		return fmt.Errorf("rename to %s: %w", to, err)
	}
	return nil
}

// cleanUp removes the temporary file on a new connection, if that is quickly
// done. Otherwise the next attempt replaces it.
func (k *sink) cleanUp(ctx context.Context, at place) {
	ctx, cancel := context.WithTimeout(ctx, cleanUpMax)
	defer cancel()
	err := k.pool.with(ctx, func(c *session) error {
		return c.ftp.Delete(join(c.absolute(k.props.TemporaryDirectory), at.temporary))
	})
	if err != nil {
		k.env.Log.Debug("temporary file of a failed upload not removed", "name", at.temporary, "error", err)
	}
}

// Close ends the connections.
func (k *sink) Close() error {
	k.pool.close()
	return nil
}
