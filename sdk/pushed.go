package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// pushed is a receive location with a PushedSource.
type pushed struct {
	*endpoint
	src PushedSource

	mu sync.Mutex
	// held are the deliveries that the runtime knows of, by key.
	held map[string]*delivery
}

// delivery is one call of deliver, from its Offer to its end. Its channels hold
// one message: a second of the kind is dropped.
type delivery struct {
	takeCh   chan *adapterpb.Take
	settleCh chan Verdict
}

func newPushed(e *endpoint, src PushedSource) *pushed {
	return &pushed{endpoint: e, src: src, held: map[string]*delivery{}}
}

// poll does nothing: the source says by itself what it has.
func (l *pushed) poll() {}

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

// run receives until the drain, again after each end with growing pauses.
func (l *pushed) run() {
	if l.s.lease.wait(l.s.taking) != nil {
		return
	}
	defer l.report(adapterpb.EndpointState_STOPPED, nil)
	var retry backoff
	for l.s.taking.Err() == nil {
		started := time.Now()
		err := l.receive(&retry)
		if l.s.taking.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the source ended by itself")
		}
		if time.Since(started) > backoffLimit {
			retry.reset()
		}
		l.report(adapterpb.EndpointState_BACKING_OFF, err)
		if sleep(l.s.taking, retry.next()) != nil {
			return
		}
	}
}

// receive calls Run once and waits for its deliveries.
func (l *pushed) receive(retry *backoff) error {
	if err := l.s.lease.check(); err != nil {
		return err
	}
	r := &pushRun{l: l, retry: retry}
	// A Run that fails at once was never connected: idle is reported later.
	var reporter sync.WaitGroup
	ctx, cancel := context.WithCancel(l.s.taking)
	reporter.Go(func() {
		if sleep(ctx, backoffFirst) == nil {
			l.report(adapterpb.EndpointState_IDLE, nil)
		}
	})
	err := l.guard("run", func() error { return l.src.Run(l.s.taking, r.deliver) })
	cancel()
	reporter.Wait()
	r.finish()
	return err
}

// pushRun is one call of Run.
type pushRun struct {
	l  *pushed
	wg sync.WaitGroup

	mu    sync.Mutex
	over  bool
	retry *backoff
}

// finish refuses further deliveries and waits for those under way.
func (r *pushRun) finish() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.wg.Wait()
}

// begin counts a delivery in.
func (r *pushRun) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errors.New("deliver called after Run had returned")
	}
	r.wg.Add(1)
	return nil
}

// deliver is the Deliver that the adapter gets.
func (r *pushRun) deliver(ctx context.Context, d Delivery) (Verdict, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	defer r.wg.Done()
	l := r.l
	if d.Item.Key == "" || d.Open == nil || d.Settle == nil {
		return 0, Permanent(errors.New("delivery without key, Open or Settle"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.s.ctx, func() { cancel(context.Cause(l.s.ctx)) })()

	// A slot only for those who come before the drain.
	queued, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(l.s.taking, func() { stop(errDraining) })()
	release, err := l.slot(queued)
	if err != nil {
		return 0, err
	}
	defer release()
	if queued.Err() != nil {
		return 0, context.Cause(queued)
	}
	if err := l.s.lease.check(); err != nil {
		return 0, err
	}
	v, err := l.offer(ctx, queued, d)
	if err == nil {
		r.mu.Lock()
		r.retry.reset()
		r.mu.Unlock()
		l.report(adapterpb.EndpointState_IDLE, nil)
	}
	return v, err
}

// offer makes the item known, and follows the runtime's wishes until its verdict
// is settled. Until the runtime takes up the item a drain (the end of untaken)
// withdraws it.
func (l *pushed) offer(ctx, untaken context.Context, item Delivery) (Verdict, error) {
	key := wireKey(item.Item.Key)
	d := &delivery{takeCh: make(chan *adapterpb.Take, 1), settleCh: make(chan Verdict, 1)}
	l.mu.Lock()
	if l.held[key] != nil {
		l.mu.Unlock()
		return 0, fmt.Errorf("item %q is being delivered already", key)
	}
	l.held[key] = d
	l.mu.Unlock()
	defer func() {
		l.drop(key, d)
		l.answerLeft(key, d)
	}()

	err := l.s.out.put(ctx, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Offer{Offer: &adapterpb.Offer{
		Location: l.name, Item: wireItem(key, item.Item)}}})
	if err != nil {
		return 0, err
	}
	wait := untaken
	for opened := false; ; {
		select {
		case t := <-d.takeCh:
			l.readOffered(ctx, t, item, opened)
			opened, wait = true, ctx
		case v := <-d.settleCh:
			v, err := l.callSettle(ctx, item, v)
			// Not held any more when the runtime hears of it: the next offer under
			// the same key has to find room.
			l.drop(key, d)
			l.say(settled(l.name, key, err))
			l.s.end() // begun by settle
			return v, err
		case <-wait.Done():
			return 0, context.Cause(wait)
		}
	}
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

func (l *pushed) readOffered(ctx context.Context, t *adapterpb.Take, item Delivery, opened bool) {
	defer l.s.end() // begun by take
	if opened {
		l.say(readFailed(t, Disconnected(errors.New("the item can be read once per offer: give it back with RETRY"))))
		return
	}
	c, err := l.read(ctx, t, item.Open)
	if err != nil {
		l.say(readFailed(t, err))
		return
	}
	l.say(contentRead(c))
}

// callSettle tells the source. It does not try again: with the connection the
// source loses the item, and offers it anew.
func (l *pushed) callSettle(ctx context.Context, item Delivery, v Verdict) (Verdict, error) {
	err := l.call(ctx, "settle", settleLimit, func(ctx context.Context) error { return item.Settle(ctx, v) })
	if err != nil {
		return 0, err
	}
	return v, nil
}
