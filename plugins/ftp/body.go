package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	ftpclient "github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Open starts to read one file. The content holds a connection until it is
// closed.
func (s *source) Open(ctx context.Context, item sdk.Item) (*sdk.Content, error) {
	f, ok := item.Handle.(*file)
	if !ok {
		return nil, fmt.Errorf("open %s: the item is not one of this location's listing", item.Key)
	}
	if unsendable(f.name) {
		return nil, sdk.Permanent(fmt.Errorf("the name %q has a line break or a NUL, which no FTP command can carry; rename the file", f.name))
	}
	s.times.take(f)
	b, err := s.retrieve(ctx, f)
	if err != nil {
		s.forget(f, err)
		return nil, err
	}
	return sdk.Body(b), nil
}

func (s *source) retrieve(ctx context.Context, f *file) (*body, error) {
	for {
		c, err := s.pool.acquire(ctx)
		if err != nil {
			return nil, err
		}
		b := &body{source: s, file: f, session: c, ctx: ctx}
		again := c.used
		err = c.run(ctx, func() (err error) {
			if err := s.claim(c, f); err != nil {
				return err
			}
			if err := c.commandsBefore(); err != nil {
				return err
			}
			b.response, err = c.retrieve(join(c.absolute(s.props.Directory), s.at(f)))
			return err
		})
		if err == nil {
			// The context ends the reading too.
			b.stop = context.AfterFunc(ctx, c.kill)
			return b, nil
		}
		gone := c.isDead()
		if !gone {
			err = s.explainRefusal(ctx, c, f, err)
		}
		s.pool.release(c)
		switch {
		case !gone:
			return nil, err
		case ctx.Err() != nil:
			return nil, err
		case !again:
			// It broke before anything of the file came.
			return nil, sdk.Disconnected(fmt.Errorf("read %s: %w", f.name, err))
		}
	}
}

// forget drops what is known of a file that is not what we thought.
func (s *source) forget(f *file, why error) {
	s.times.forget(f.name)
	if sdk.IsGone(why) {
		s.claims.Forget(f.name, s.version(f))
	}
}

// explainRefusal finds out whether a refused file is gone: servers use the same
// reply for files that they do not let us read.
func (s *source) explainRefusal(ctx context.Context, c *session, f *file, refusal error) error {
	err := fmt.Errorf("read %s: %w", f.name, refusal)
	if !isMissing(refusal) {
		return err
	}
	var missing error
	lookErr := c.run(ctx, func() error {
		dir := c.absolute(s.props.Directory)
		now, err := c.look(dir, s.at(f))
		if err == nil && !now.exists {
			missing = s.missing(namesBelow(c, dir), dir, f)
		}
		return err
	})
	if lookErr == nil && sdk.IsGone(missing) {
		return sdk.Gone(err)
	}
	return err
}

// body reads one file. It is used by one goroutine.
type body struct {
	source   *source
	file     *file
	session  *session
	response *ftpclient.Response
	ctx      context.Context // the reading's
	stop     func() bool
	n        int64
	ended    bool
	failed   error
}

func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if b.failed != nil {
		return 0, b.failed
	}
	n, err := b.response.Read(p)
	b.n += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.ended = true
	case b.tooLarge():
		b.failed = sdk.Permanent(fmt.Errorf("%s has more than max_size, %d bytes; it stays where it is", b.file.name, b.source.filter.Limit()))
		err = b.failed
	case err != nil:
		b.failed = ended(b.ctx, fmt.Errorf("read %s after %d bytes: %w", b.file.name, b.n, b.session.end.at(err)))
		err = b.failed
	}
	return n, err
}

// tooLarge is about files whose size the listing does not tell.
func (b *body) tooLarge() bool {
	limit := b.source.filter.Limit()
	return limit > 0 && b.n > limit
}

// Close says whether the file was read whole: the server has to confirm the
// transfer, and the size must be the one that was listed. After less than the
// whole file the connection is given up, because servers differ in what they
// reply to a transfer that the client broke off, if they reply at all.
func (b *body) Close() error {
	err := b.finish()
	if err == nil {
		b.session.commandsAfter(b.ctx)
	}
	if !b.stop() {
		b.session.kill()
	}
	b.source.pool.release(b.session)
	if err != nil {
		b.source.forget(b.file, err)
		return err
	}
	if b.source.props.AfterDelivery == files.AfterKeep {
		b.source.times.untake(b.file.name)
	} else if b.ended && b.file.size >= 0 && !b.source.props.ascii() {
		b.source.times.readWhole(b.file)
	}
	return nil
}

func (b *body) finish() error {
	if !b.ended {
		b.session.kill()
		return b.failed
	}
	err := b.response.Close()
	if err == nil || isRefusal(err) {
		b.session.endTransfer()
	}
	if err != nil {
		if !isRefusal(err) {
			b.session.kill()
		}
		return unavailable(ended(b.ctx, fmt.Errorf("read %s: the server did not confirm the transfer: %w", b.file.name, b.session.end.at(err))))
	}
	switch {
	case b.file.size < 0 || b.n == b.file.size || b.source.props.ascii():
		return nil
	case b.n > b.file.size:
		return sdk.Gone(fmt.Errorf("%s has grown from %d to %d bytes since it was listed", b.file.name, b.file.size, b.n))
	}
	return fmt.Errorf("read %s: got %d of %d bytes", b.file.name, b.n, b.file.size)
}
