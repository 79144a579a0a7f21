package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	recallLimit = time.Minute
	// maxRecalls bounds the items of a location that are being brought back.
	maxRecalls = 4096
)

func recalled(location, key string, err error) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Recalled{Recalled: &adapterpb.Recalled{
		Location: location, Key: key, Error: wireError(err)}}}
}

// recall lists: what was put aside lies where it was.
func (l *polled) recall(m *adapterpb.Recall) {
	err := l.s.notDraining()
	if err == nil {
		l.poll()
	}
	l.s.op(func() { l.say(recalled(l.name, m.GetKey(), err)) })
}

// recall brings an item back in the background. One that is held, or being brought
// back, is on its way already.
func (l *pushed) recall(m *adapterpb.Recall) {
	key := m.GetKey()
	again, err := l.beginRecall(key)
	if again || err != nil {
		l.s.op(func() { l.say(recalled(l.name, key, err)) })
		return
	}
	if !l.s.spawn(func() { l.bringBack(key) }) {
		l.endRecall(key) // the session is over, nobody waits for an answer
	}
}

func (l *pushed) beginRecall(key string) (again bool, err error) {
	if _, ok := l.src.(Recaller); !ok {
		return false, Permanent(errors.New("this adapter cannot bring items back: put the item where the location receives from, and discard the suspended one"))
	}
	if err := l.s.notDraining(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.held[key] != nil || l.recalls[key]:
		return true, nil
	case len(l.recalls) >= maxRecalls:
		return false, Disconnected(fmt.Errorf("%d items are being brought back at this location: ask again later", maxRecalls))
	}
	l.recalls[key] = true
	return false, nil
}

func (l *pushed) endRecall(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.recalls, key)
}

// bringBack has the source find the item, and delivers it. It has slots of its own:
// all others may be taken by items that wait for this one, where order is kept.
//
// The recall is over before the runtime hears of its outcome, because the next one for
// the same key may come at once. Where it succeeds, hold ends it.
func (l *pushed) bringBack(key string) {
	// It works also during a pause. One that begins withdraws what was not taken, and
	// the runtime asks again for what it still wants.
	taking, _, stop := l.pausing.untilNext(l.s.taking)
	defer stop()
	release, err := acquire(taking, l.recallSlots)
	if err != nil {
		l.endRecall(key)
		l.say(recalled(l.name, key, err))
		return
	}
	defer release()
	d, err := l.find(key)
	if err != nil {
		l.endRecall(key)
	}
	l.say(recalled(l.name, key, err))
	if err != nil {
		return
	}
	if _, err := l.offer(l.s.ctx, taking, d); err != nil {
		l.log.Info("item that was brought back is not settled", "key", key, "error", errorText(err))
	}
}

// find calls Recall, and refuses what it may not return.
func (l *pushed) find(key string) (d Delivery, err error) {
	l.s.begin()
	defer l.s.end()
	own, err := sourceKey(key)
	if err != nil {
		return d, err
	}
	err = l.call(l.s.ctx, "recall", recallLimit, func(ctx context.Context) (err error) {
		d, err = l.src.(Recaller).Recall(ctx, own)
		return err
	})
	switch {
	case err != nil:
		return d, err
	case d.Open == nil || d.Settle == nil:
		return d, Permanent(errors.New("the adapter brought an item back without Open or Settle"))
	case wireKey(d.Item.Key) != key:
		return d, Permanent(fmt.Errorf("the adapter brought back the item %q instead of %q", wireKey(d.Item.Key), key))
	}
	return d, nil
}

// sourceKey undoes wireKey, where that is possible.
func sourceKey(wire string) (string, error) {
	if strings.HasPrefix(wire, hashedKey) {
		return "", Permanent(fmt.Errorf("the item's key had more than %d bytes, and only its hash is known: the source cannot find the item", maxKeyBytes))
	}
	escaped, ok := strings.CutPrefix(wire, escapedKey)
	if !ok {
		return wire, nil
	}
	return unescape(escaped), nil
}
