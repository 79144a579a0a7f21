package main

import (
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// beatsPerAckWait is how many signs of life go out in one ack_wait, at least.
const beatsPerAckWait = 3

// beats are the messages that the broker has to be told of: that they are being worked
// on, or it would offer them to somebody else.
type beats struct {
	mu   sync.Mutex
	held map[*delivery]struct{}
}

func (b *beats) add(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		b.held = map[*delivery]struct{}{}
	}
	b.held[d] = struct{}{}
}

func (b *beats) remove(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, d)
}

// silent returns those for which no sign of life went out for so long.
func (b *beats) silent(now bootclock.Time, d time.Duration) []*delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*delivery
	for one := range b.held {
		if now.Sub(bootclock.Time(one.beaten.Load())) >= d {
			out = append(out, one)
		}
	}
	return out
}

// beat gives signs of life for all messages of the session, until its end.
func (ses *session) beat() {
	// It looks twice as often as a message needs it, for none is new at a tick.
	every := max(ses.ackWait/beatsPerAckWait/2, time.Millisecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ses.over.Done():
			return
		case <-ticker.C:
			for _, d := range ses.beats.silent(bootclock.Now(), every) {
				d.beat()
			}
		}
	}
}

// beat gives one sign of life, unless no more are to go out.
func (d *delivery) beat() {
	d.beatMu.Lock()
	defer d.beatMu.Unlock()
	if d.quiet {
		return
	}
	now := bootclock.Now()
	// While the connection is down it fails at once and is not made up for.
	if err := d.ses.c.nc.Publish(d.reply, []byte(answerProgress)); err == nil {
		d.beaten.Store(int64(now))
	}
}

// stopBeat returns when no sign of life is under way and none will be. It may be
// called twice.
func (d *delivery) stopBeat() {
	d.beatMu.Lock()
	d.quiet = true
	d.beatMu.Unlock()
	d.ses.beats.remove(d)
}
