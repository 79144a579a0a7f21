package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// pushed is a receive location with a PushedSource.
type pushed struct {
	*endpoint
	src PushedSource
	// inlineMax is the size up to which content goes with its offer. It becomes 0 when
	// an item had more content than its size said.
	inlineMax atomic.Int64
	// recallSlots are for items that are brought back, beside the endpoint's own.
	recallSlots *semaphore.Weighted
	// deliveries are all that are under way, of whatever call of Run.
	deliveries sync.WaitGroup

	mu sync.Mutex
	// held are the deliveries that the runtime knows of, by key.
	held map[string]*delivery
	// recalls are the keys of items that are being brought back.
	recalls map[string]bool
}

// delivery is one call of deliver, from its Offer to its end. Its channels hold
// one message: a second of the kind is dropped.
type delivery struct {
	item     Delivery
	takeCh   chan *adapterpb.Take
	settleCh chan Verdict

	// opened: the content was read, once and for all; if in vain, failed says why.
	opened bool
	failed error
}

func newPushed(e *endpoint, src PushedSource, c *adapterpb.Endpoint) *pushed {
	l := &pushed{
		endpoint: e, src: src, held: map[string]*delivery{}, recalls: map[string]bool{},
		recallSlots: semaphore.NewWeighted(int64(max(1, c.GetMaxInFlight()))),
	}
	l.inlineMax.Store(min(c.GetOfferInlineMax(), inlineCap))
	if c.GetOrdered() {
		e.slots = semaphore.NewWeighted(1) // one after the other, whatever the source does
	}
	return l
}

// poll does nothing: the source says by itself what it has.
func (l *pushed) poll() {}

func (l *pushed) pause(on bool) {
	if l.pausing.set(on) {
		l.s.spawn(l.reportPause)
	}
}

// reportPause tells of the pause or its end.
func (l *pushed) reportPause() {
	if l.s.taking.Err() == nil {
		l.report(adapterpb.EndpointState_IDLE, nil) // stopped while it is paused
	}
}

func (l *pushed) close() error { return l.guard("close", l.src.Close) }

// errNotHeld answers for an item that its broker has taken back. It will be offered
// again, and its fate has to be kept until then.
func errNotHeld(key string) error {
	return Disconnected(fmt.Errorf("item %q is not held at present: the source will offer it again", key))
}

func (l *pushed) take(t *adapterpb.Take) {
	l.s.begin()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.held[t.GetKey()]
	if d == nil {
		l.s.op(func() { l.say(readFailed(t, errNotHeld(t.GetKey()))) })
		l.s.end()
		return
	}
	select {
	case d.takeCh <- t: // whoever receives it ends the operation
	default:
		l.s.end() // the first one is answered
	}
}

func (l *pushed) settle(m *adapterpb.Settle) {
	v := sdkVerdict(m.GetVerdict())
	if v == 0 {
		err := Permanent(fmt.Errorf("unknown verdict %d; is the runtime newer than the adapter?", m.GetVerdict()))
		l.s.op(func() { l.say(settled(l.name, m.GetKey(), err)) })
		return
	}
	l.s.begin()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.held[m.GetKey()]
	if d == nil {
		l.s.op(func() { l.say(settled(l.name, m.GetKey(), errNotHeld(m.GetKey()))) })
		l.s.end()
		return
	}
	select {
	case d.settleCh <- v:
	default:
		l.s.end()
	}
}

// drop forgets a delivery. After it nothing arrives in its channels.
func (l *pushed) drop(key string, d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] == d {
		delete(l.held, key)
	}
}

// run receives until the drain, except during pauses; again after each end with
// growing waits.
func (l *pushed) run() {
	l.reportPause() // it may start paused
	if l.s.lease.wait(l.s.taking) != nil {
		return
	}
	defer l.report(adapterpb.EndpointState_STOPPED, nil)
	defer l.deliveries.Wait() // no run is left that could begin one
	var retry backoff
	for l.awaitTurn() {
		started := time.Now()
		err := l.receive(&retry)
		if l.s.taking.Err() != nil {
			return
		}
		if errors.Is(err, errPaused) {
			retry.reset()
			continue
		}
		if err == nil {
			err = errors.New("the source ended by itself")
		}
		if time.Since(started) > backoffLimit {
			retry.reset()
		}
		l.report(adapterpb.EndpointState_BACKING_OFF, err)
		if l.sleepUnpaused(retry.next()) != nil {
			return
		}
	}
}

// awaitTurn returns true as soon as the location is not paused, false at a drain.
func (l *pushed) awaitTurn() bool {
	for l.s.taking.Err() == nil {
		paused, changed := l.pausing.now()
		if !paused {
			return true
		}
		select {
		case <-changed:
		case <-l.s.taking.Done():
		}
	}
	return false
}

// sleepUnpaused waits, until a pause begins or a drain, which is an error.
func (l *pushed) sleepUnpaused(d time.Duration) error {
	ctx, paused, stop := l.pausing.untilNext(l.s.taking)
	defer stop()
	if !paused {
		_ = sleep(ctx, d)
	}
	return l.s.notDraining()
}

// receive calls Run once. It waits for its deliveries, unless Run was ended by a
// pause: those go on by themselves, however long they take, and are no reason not to
// receive when the pause is over.
func (l *pushed) receive(retry *backoff) error {
	if err := l.s.lease.check(); err != nil {
		return err
	}
	ctx, paused, stop := l.pausing.untilNext(l.s.taking)
	defer stop()
	if paused {
		return errPaused
	}
	r := &pushRun{l: l, retry: retry, taking: ctx}
	// A Run that fails at once was never connected: idle is reported later.
	var reporter sync.WaitGroup
	reporting, stopReporting := context.WithCancel(ctx)
	reporter.Go(func() {
		if sleep(reporting, backoffFirst) == nil {
			l.report(adapterpb.EndpointState_IDLE, nil)
		}
	})
	err := l.guard("run", func() error { return l.src.Run(ctx, r.deliver) })
	paused = errors.Is(context.Cause(ctx), errPaused)
	stopReporting()
	reporter.Wait()
	r.finish()
	if paused {
		return errPaused
	}
	r.wg.Wait()
	return err
}

// pushRun is one call of Run.
type pushRun struct {
	l *pushed
	// taking ends when nothing new is taken up: at a pause or a drain.
	taking context.Context
	wg     sync.WaitGroup

	mu    sync.Mutex
	over  bool
	retry *backoff // nil when the run is over
}

// finish refuses further deliveries.
func (r *pushRun) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over, r.retry = true, nil
}

// begin counts a delivery in.
func (r *pushRun) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errors.New("deliver called after Run had returned")
	}
	r.wg.Add(1)
	r.l.deliveries.Add(1)
	return nil
}

func (r *pushRun) end() {
	r.wg.Done()
	r.l.deliveries.Done()
}

// works notes that the source does what it is there for.
func (r *pushRun) works() {
	r.mu.Lock()
	if r.retry != nil {
		r.retry.reset()
	}
	r.mu.Unlock()
	r.l.report(adapterpb.EndpointState_IDLE, nil)
}

// deliver is the Deliver that the adapter gets.
func (r *pushRun) deliver(ctx context.Context, d Delivery) (Verdict, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	defer r.end()
	if d.Item.Key == "" || d.Open == nil || d.Settle == nil {
		return 0, Permanent(errors.New("delivery without key, Open or Settle"))
	}
	release, err := r.slot(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := r.l.s.lease.check(); err != nil {
		return 0, err
	}
	v, err := r.l.offer(ctx, r.taking, d)
	if err == nil {
		r.works()
	}
	return v, err
}

// slot waits for a slot, until ctx ends or nothing new is taken up.
func (r *pushRun) slot(ctx context.Context) (release func(), err error) {
	if r.l.slots.TryAcquire(1) {
		if ctx.Err() == nil && r.taking.Err() == nil {
			return func() { r.l.slots.Release(1) }, nil
		}
		r.l.slots.Release(1)
	}
	ctx, cancel := until(ctx, r.taking)
	defer cancel()
	return acquire(ctx, r.l.slots)
}

// until derives a context from ctx that also ends, and for the same cause, with
// another one.
func until(ctx, end context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(end, func() { cancel(context.Cause(end)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// offer makes the item known, and follows the runtime's wishes until its verdict
// is settled. Until the runtime takes up the item a pause or a drain (the end of
// taking) withdraws it. Content that goes with the offer counts as taken.
func (l *pushed) offer(ctx, taking context.Context, item Delivery) (Verdict, error) {
	key := wireKey(item.Item.Key)
	d := &delivery{item: item, takeCh: make(chan *adapterpb.Take, 1), settleCh: make(chan Verdict, 1)}
	if err := l.hold(key, d); err != nil {
		return 0, err
	}
	defer func() {
		l.drop(key, d)
		l.answerLeft(key, d)
	}()

	offer := &adapterpb.Offer{Location: l.name, Item: wireItem(key, item.Item)}
	if l.goesInline(item.Item.Size) {
		offer.Content = l.readInline(ctx, key, d)
	}
	if taking.Err() != nil {
		return 0, context.Cause(taking)
	}
	if err := l.s.out.put(ctx, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Offer{Offer: offer}}); err != nil {
		return 0, err
	}
	withdrawn := taking.Done()
	if offer.Content != nil {
		withdrawn = nil
	}
	for {
		select {
		case t := <-d.takeCh:
			l.readOffered(ctx, t, d)
			withdrawn = nil
		case v := <-d.settleCh:
			v, err := l.callSettle(ctx, item, v)
			// Not held any more when the runtime hears of it: the next offer under
			// the same key has to find room.
			l.drop(key, d)
			l.say(settled(l.name, key, err))
			l.s.end() // begun by settle
			return v, err
		case <-withdrawn:
			return 0, context.Cause(taking)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-l.s.ctx.Done():
			return 0, context.Cause(l.s.ctx)
		}
	}
}

// hold makes takes and settles find the delivery.
func (l *pushed) hold(key string, d *delivery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// It is held from now on, by this delivery or the other.
	delete(l.recalls, key)
	if l.held[key] != nil {
		return fmt.Errorf("item %q is being delivered already", key)
	}
	l.held[key] = d
	return nil
}

// answerLeft answers what reached a delivery after its end, or nobody would.
func (l *pushed) answerLeft(key string, d *delivery) {
	select {
	case t := <-d.takeCh:
		l.s.op(func() { l.say(readFailed(t, errNotHeld(key))) })
		l.s.end()
	default:
	}
	select {
	case <-d.settleCh:
		l.s.op(func() { l.say(settled(l.name, key, errNotHeld(key))) })
		l.s.end()
	default:
	}
}

func (l *pushed) goesInline(size int64) bool {
	return size >= 0 && size <= l.inlineMax.Load() && l.inlineMax.Load() > 0
}

// readInline reads the content for the offer. If that fails, the item is offered all
// the same, and who takes it hears of the error.
func (l *pushed) readInline(ctx context.Context, key string, d *delivery) *adapterpb.Content {
	limit := l.inlineMax.Load()
	ctx, cancel := l.s.within(ctx)
	defer cancel()
	d.opened = true
	c, err := l.read(ctx, reading{key: key, size: d.item.Item.Size, inlineMax: limit, max: limit}, d.item.Open)
	if errors.Is(err, errTooMuch) {
		// It comes again, and is then read in the way that has room for it.
		l.inlineMax.Store(0)
		l.log.Warn("an item has more content than its size says: no content goes with offers any more", "key", key)
	}
	d.failed = err
	return c
}

func (l *pushed) readOffered(ctx context.Context, t *adapterpb.Take, d *delivery) {
	defer l.s.end() // begun by take
	switch {
	case d.failed != nil:
		l.say(readFailed(t, d.failed))
		return
	case d.opened:
		l.say(readFailed(t, Disconnected(errors.New("the item can be read once per offer: give it back with RETRY"))))
		return
	}
	d.opened = true
	ctx, cancel := l.s.within(ctx)
	defer cancel()
	c, err := l.read(ctx, readingOf(t, d.item.Item.Size), d.item.Open)
	if err != nil {
		l.say(readFailed(t, err))
		return
	}
	l.say(contentRead(c))
}

// callSettle tells the source. It does not try again: with the connection the
// source loses the item, and offers it anew.
func (l *pushed) callSettle(ctx context.Context, item Delivery, v Verdict) (Verdict, error) {
	ctx, cancel := l.s.within(ctx)
	defer cancel()
	err := l.call(ctx, "settle", settleLimit, func(ctx context.Context) error { return item.Settle(ctx, v) })
	if err != nil {
		return 0, err
	}
	return v, nil
}
