package sdk

import (
	"context"
	"fmt"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func readFailed(t *adapterpb.Take, err error) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_ReadFailed{ReadFailed: &adapterpb.ReadFailed{
		Location: t.GetLocation(), Key: t.GetKey(), Error: wireError(err)}}}
}

func contentRead(c *adapterpb.Content) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Content{Content: c}}
}

func settled(location, key string, err error) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Settled{Settled: &adapterpb.Settled{
		Location: location, Key: key, Error: wireError(err)}}}
}

// take reads an item in the background. A second Take of an item that is being
// read is answered by the first.
func (l *polled) take(t *adapterpb.Take) {
	it, again, err := l.startReading(t.GetKey())
	if again {
		return
	}
	l.s.op(func() {
		if err != nil {
			l.say(readFailed(t, err))
			return
		}
		c, err := l.readItem(t, it)
		l.doneReading(t.GetKey(), err)
		if err != nil {
			l.say(readFailed(t, err))
			return
		}
		l.say(contentRead(c))
	})
}

func (l *polled) startReading(key string) (it Item, again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.items[key]
	switch {
	case e == nil:
		return it, false, l.unknownLocked(key)
	case e.held:
		return it, false, Disconnected(fmt.Errorf("item %q may still be growing", key))
	case e.reading:
		return it, true, nil
	}
	e.reading = true
	l.active++
	return e.item, false, nil
}

// unknownLocked tells an item that is gone from one that was not seen yet.
func (l *polled) unknownLocked(key string) error {
	if l.merged == 0 {
		return Disconnected(fmt.Errorf("item %q: the source has not been listed yet", key))
	}
	return Gone(fmt.Errorf("item %q is not in the latest listing", key))
}

func (l *polled) readItem(t *adapterpb.Take, it Item) (c *adapterpb.Content, err error) {
	release, err := l.slot(l.s.taking)
	if err != nil {
		return nil, err
	}
	defer release()
	err = l.inGate(l.s.ctx, func(ctx context.Context) (err error) {
		c, err = l.read(ctx, readingOf(t, it.Size), func(ctx context.Context) (*Content, error) { return l.src.Open(ctx, it) })
		return err
	})
	return c, err
}

func (l *polled) doneReading(key string, err error) {
	l.mu.Lock()
	if e := l.items[key]; e != nil {
		e.reading = false
		if err == nil {
			e.taken = time.Now()
		}
	}
	l.mu.Unlock()
	l.inactive()
	if IsDisconnected(err) && l.s.taking.Err() == nil {
		select {
		case l.troubleCh <- err:
		default:
		}
	}
}

// inactive ends what counted as active.
func (l *polled) inactive() {
	l.mu.Lock()
	l.active--
	l.mu.Unlock()
	if l.batch != nil {
		nudge(l.batch.kickCh)
	}
}

// settle settles an item in the background. A second Settle of an item that is
// being settled is answered by the first.
func (l *polled) settle(m *adapterpb.Settle) {
	again, err := l.startSettling(m.GetKey())
	if again {
		return
	}
	l.s.op(func() {
		if err == nil {
			err = l.settleItem(m)
		}
		if l.s.ctx.Err() != nil {
			return
		}
		l.settleFares(m.GetKey(), nil)
		l.answerSettle(m.GetKey(), err)
	})
}

func (l *polled) startSettling(key string) (again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.items[key]
	switch {
	case e == nil:
		return false, l.unknownLocked(key)
	case e.settling:
		return true, nil
	}
	e.settling = true
	l.active++
	return false, nil
}

// answerSettle says Settled, and forgets the item if it is.
func (l *polled) answerSettle(key string, err error) {
	l.sayMu.Lock()
	defer l.sayMu.Unlock()
	l.mu.Lock()
	if e := l.items[key]; e != nil {
		e.settling = false
		done := err == nil || IsGone(err)
		if done && !e.item.Kept {
			delete(l.items, key)
			if l.settled != nil {
				l.settled[key] = true
			}
		}
	}
	l.mu.Unlock()
	l.say(settled(l.name, key, err))
}

// settleItem tries until the source has confirmed, or the item is gone, or a drain
// or the session's end leaves it to the next owner. It begins as active.
func (l *polled) settleItem(m *adapterpb.Settle) error {
	key := m.GetKey()
	if sdkVerdict(m.GetVerdict()) != Delivered {
		l.inactive()
		return nil // a polled source keeps what is not delivered, as it is
	}
	var retry backoff
	for {
		it, _ := l.current(key)
		if it.Kept {
			l.inactive()
			return nil
		}
		flushed, err := l.settleOnce(it)
		l.inactive()
		if flushed != nil {
			err = l.awaitFlush(flushed)
		}
		if err == nil || IsGone(err) || l.s.ctx.Err() != nil {
			return err
		}
		l.log.Warn("settle failed", "key", key, "error", errorText(err))
		l.settleFares(key, err)
		if flushed != nil {
			// What the lost session took with it is gone; the rest has new handles.
			if l.awaitListing() != nil {
				return err
			}
			if _, listed := l.current(key); !listed {
				return nil
			}
		} else if sleep(l.s.taking, retry.next()) != nil {
			return err // draining: the next owner tries again
		}
		l.mu.Lock()
		l.active++
		l.mu.Unlock()
	}
}

// current returns the item as the latest listing has it.
func (l *polled) current(key string) (it Item, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.items[key] // stays while it is settling
	return e.item, e.listed
}

// settleOnce makes one attempt. With a batcher a success is not yet one: flushed
// then gives the outcome.
func (l *polled) settleOnce(it Item) (flushed <-chan error, err error) {
	release, err := l.slot(l.s.ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	err = l.inGate(l.s.ctx, func(ctx context.Context) error {
		err := l.call(ctx, "settle", settleLimit, func(ctx context.Context) error {
			return l.src.Settle(ctx, it)
		})
		if err == nil && l.batch != nil {
			// In the gate, so that no Flush in between is taken for this one's.
			flushed = l.batch.add()
		}
		return err
	})
	return flushed, err
}

func (l *polled) awaitFlush(flushed <-chan error) error {
	select {
	case err := <-flushed:
		return err
	case <-l.s.ctx.Done():
		return context.Cause(l.s.ctx)
	}
}

// awaitListing polls and waits for a complete listing that begins from now on.
func (l *polled) awaitListing() error {
	l.mu.Lock()
	after := l.rounds
	l.awaiting++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.awaiting--
		l.mu.Unlock()
	}()
	for {
		l.mu.Lock()
		seen, next := l.merged > after, l.listedCh
		l.mu.Unlock()
		if seen {
			return nil
		}
		if !l.failing() {
			l.poll()
		}
		select {
		case <-next:
		case <-l.s.taking.Done():
			return context.Cause(l.s.taking)
		}
	}
}

// isAwaited says that a settle waits for a listing.
func (l *polled) isAwaited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaiting > 0
}
