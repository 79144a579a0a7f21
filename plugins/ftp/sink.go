package main

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
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
	made  files.Made
	// features are asked for when they are needed first.
	features knownFeatures
	// noTimes and noSums warn once of a server that takes no times or checksums; noHash is set when one did not
	// answer the question for a checksum.
	noTimes, noSums sync.Once
	noHash          atomic.Bool
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	connections, err := newPool(p.connection, env.Log, p.Directory.String(), cmp.Or(p.TemporaryDirectory, p.Directory.String()))
	if err != nil {
		return nil, err
	}
	return &sink{props: p, env: env, pool: connections, sent: newAttempts()}, nil
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
	if k.appends() {
		done, err := appending.Take(ctx, k.pool.end.addr+" "+join(at.Directory, at.Name))
		if err != nil {
			return sdk.Disconnected(err)
		}
		defer done()
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
	if err != nil && !open && broken && !k.props.Resume && !k.appends() {
		k.cleanUp(ctx, at)
	}
	if err != nil {
		k.made.Forget(at.temporary, at.Directory)
	}
	if !open {
		return unavailable(err)
	}
	return err
}

func (k *sink) appends() bool { return k.props.IfExists == files.ExistsAppend }

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
	keep := k.appends() || k.props.Resume && !errors.Is(err, errSpoiled)
	if err != nil && !open && !keep && !c.isDead() {
		// The connection is in step, so this is the cheapest moment to clean up.
		_ = c.run(ctx, func() error { return k.deleteUpload(c, at) })
	}
	return open, c.isDead(), stale, err
}

// deliver returns with open set if the message may have arrived in spite of the
// error.
func (k *sink) deliver(ctx context.Context, c *session, m *sdk.Message, at place) (open bool, err error) {
	if k.appends() {
		return k.appendTo(ctx, c, m, at)
	}
	arrived := false
	err = c.run(ctx, func() (err error) {
		arrived, err = k.before(c, m, at)
		return err
	})
	if err != nil || arrived {
		return false, err
	}
	var sums *files.Sums
	err = c.run(ctx, func() (err error) {
		if err := c.commandsBefore(); err != nil {
			return err
		}
		sums, err = k.upload(c, m, at)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, name := range at.Names() {
		err = c.run(ctx, func() (err error) {
			arrived, err = k.beforeRename(c, m, at, name, sums)
			return err
		})
		if arrived {
			return false, err
		}
		if err == nil {
			err = c.run(ctx, func() error { return k.rename(c, at, name) })
			// A refusal means that the rename was not done; silence means nothing.
			open = err != nil && !isRefusal(err)
		}
		if err == nil {
			c.commandsAfter(ctx)
		}
		if !errors.Is(err, errTaken) {
			return open, err
		}
	}
	return false, k.explainTaken(at, err)
}

// before reports whether the message has arrived already, where sending it again
// would not replace it. It makes the directories that are missing.
func (k *sink) before(c *session, m *sdk.Message, at place) (arrived bool, err error) {
	if err := k.makeDirectories(c, at); err != nil {
		return false, err
	}
	if k.props.IfExists == files.ExistsReplace || !m.Redelivered {
		return false, nil
	}
	for _, name := range at.Names() {
		if arrived, err = k.holds(c, m, at, name); arrived || err != nil {
			return arrived, err
		}
	}
	return false, nil
}

// cleanUp removes the temporary file on a new connection, if that is quickly
// done. Otherwise the next attempt replaces it.
func (k *sink) cleanUp(ctx context.Context, at place) {
	ctx, cancel := context.WithTimeout(ctx, cleanUpMax)
	defer cancel()
	err := k.pool.with(ctx, func(c *session) error { return k.deleteUpload(c, at) })
	if err != nil {
		k.env.Log.Debug("temporary file of a failed upload not removed", "name", at.uploadName, "error", err)
	}
}

// Close ends the connections.
func (k *sink) Close() error {
	k.pool.close()
	return nil
}
