package main

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// sink is one send port.
type sink struct {
	props sendProperties
	env   sdk.Env
	pool  *pool
	made  files.Made
	// noTimes warns once of a server that takes no times.
	noTimes sync.Once

	mu sync.Mutex
	// left are IDs of messages that may have temporary files of earlier attempts. To
	// find them costs a listing, which no message should cost that has none.
	left map[string]bool
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	connections, err := newPool(p.connection)
	if err != nil {
		return nil, err
	}
	warnOfAnyHost(p.connection, env)
	return &sink{props: p, env: env, pool: connections, left: map[string]bool{}}, nil
}

// Close ends the connections.
func (k *sink) Close() error {
	k.pool.close()
	return nil
}

// Send writes the content under a temporary name and renames it. Until the rename is
// asked for nothing has happened that counts; every attempt has a temporary name of its
// own, so that a former owner who wakes up finds nothing to rename.
func (k *sink) Send(ctx context.Context, m *sdk.Message) error {
	if n := len(m.Parts); n != 1 {
		return sdk.Permanent(fmt.Errorf("message has %d parts and a file holds one; route it to another adapter", n))
	}
	at, err := k.place(m)
	if err != nil {
		return err
	}
	if k.props.IfExists == files.ExistsAppend {
		return k.appendTo(ctx, m, at)
	}
	stale, err := k.once(ctx, m, at)
	if stale && ctx.Err() == nil {
		// One that lay idle may have been closed by the server long ago, and others with it.
		// What breaks on a new one as well has another reason.
		k.pool.dropIdle()
		_, err = k.once(ctx, m, at)
	}
	if err != nil {
		k.made.Forget(at.temporary, at.Directory)
	} else if k.props.Resume {
		k.setLeft(m.ID, false)
	}
	return err
}

// once is Send on connections as they are; stale is as in attempt.
func (k *sink) once(ctx context.Context, m *sdk.Message, at place) (stale bool, err error) {
	temp := path.Join(at.temporary, files.AttemptName(m.ID))
	var arrived bool
	var offset int64
	err = k.pool.with(ctx, func(c *session) (err error) {
		arrived, offset, err = k.prepare(ctx, c, m, at, temp)
		return err
	})
	if err != nil {
		return false, sdk.Disconnected(fmt.Errorf("look at %s: %w", at.Directory, err))
	}
	if arrived {
		return false, nil
	}
	return k.attempt(ctx, m, at, temp, offset)
}

// prepare takes away what earlier attempts left, and reports whether the message has
// arrived before. A temporary file of the past would be taken for proof of absence;
// and it must be gone before the look, so that no earlier attempt that was frozen before
// its rename can make a file appear after it. With resume, temp may be the best of them,
// and offset how much of it is good.
func (k *sink) prepare(ctx context.Context, c *session, m *sdk.Message, at place, temp string) (arrived bool, offset int64, err error) {
	if err := k.makeDirectories(c, at); err != nil {
		return false, 0, err
	}
	if m.Redelivered || k.hasLeft(m.ID) {
		if offset, err = k.takeOver(ctx, c, m, at, temp); err != nil {
			return false, 0, err
		}
	}
	if k.props.Name.Unique() || m.Redelivered {
		arrived, err = k.arrived(c, at, m)
	}
	if arrived && offset > 0 {
		err = k.removeTemps(ctx, c, at, m.ID)
	}
	return arrived, offset, err
}

// attempt uploads and renames, on one connection. stale says that this was one that
// was used before and broke, and that nothing has arrived.
func (k *sink) attempt(ctx context.Context, m *sdk.Message, at place, temp string, offset int64) (stale bool, err error) {
	c, err := k.pool.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer k.pool.release(c)
	used := c.used
	sums, err := k.upload(ctx, c, temp, offset, m)
	if err != nil {
		stale = used && c.isDead()
		k.discard(ctx, c, temp, m.ID)
		return stale, err
	}
	if err := k.name(ctx, c, temp, at, m.ID, sums); err != nil {
		k.discard(ctx, c, temp, m.ID)
		return false, err
	}
	return false, nil
}
