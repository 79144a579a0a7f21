package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// answerLimit bounds the wait for an adapter's answer. The SDK ends every call of an
// adapter within the hour, so nothing is to come after it.
const answerLimit = 70 * time.Minute

var (
	errDraining = errors.New("the host is draining")
	errGone     = errors.New("the item is not at the source any more")
	// errEnded: the item has come to the end of its way without being settled.
	errEnded = errors.New("ended")
)

// carriage is one item on its way. Its steps are in the order of carry; each is
// committed before the next begins, so that whoever comes after a crash finds the
// item at the step it had reached.
type carriage struct {
	candidate
	r    *receiver
	link Link
	id   string   // the message's, the same at every attempt
	fate *pb.Fate // committed so far; nil: none
	// doubt: an attempt from before this carriage may have arrived.
	doubt   bool
	replies chan *adapterpb.FromAdapter
	// recorded: the ledger knows it although its location delivers at least once.
	recorded bool
	// m is the message once it was read, in room.
	m        *Message
	room     *slot
	attempts []*pb.Attempt // that failed, the newest last, bounded; guarded by mu
	mu       sync.Mutex
	// again is a later offer of the same item, to be answered afterwards; guarded
	// by the receiver's lock.
	again *candidate
}

func newCarriage(r *receiver, next candidate, fate *pb.Fate, doubt bool) *carriage {
	return &carriage{
		candidate: next, r: r, link: r.link, id: fate.GetMessageId(), fate: fate, doubt: doubt,
		recorded: fate != nil, replies: make(chan *adapterpb.FromAdapter, 4),
	}
}

// run does what the item needs. Errors end the carriage where it stands; the next
// listing, offer or owner takes it up again. Only in an ordered lane it tries by
// itself: nothing may overtake it.
func (c *carriage) run(ctx context.Context, e errand) {
	defer func() { c.room.free() }()
	for tries := 0; ; tries++ {
		err := c.do(ctx, e)
		if err == nil || ctx.Err() != nil || errors.Is(err, errDraining) || errors.Is(err, errEnded) {
			return
		}
		c.r.note(c.name(), err)
		c.log().Warn("item not carried through", "error", err)
		if !c.staysInLine(err) {
			break
		}
		if !c.r.e.sleep(ctx, outage(tries)) {
			return
		}
		if e = errandOf(c.fate, c.item.GetKept(), c.pushed); e == nothing {
			return
		}
	}
	if c.pushed {
		// The broker would otherwise wait for an answer that does not come.
		_ = c.verdict(ctx, adapterpb.Verdict_VERDICT_RETRY)
	}
}

// staysInLine reports whether the item has to be tried again before the next of its
// lane: until it is delivered, for as long as its handler can give it.
func (c *carriage) staysInLine(err error) bool {
	return c.r.loc.Ordered && c.fate.GetState() != pb.Fate_DELIVERED && c.fate.GetState() != pb.Fate_DISCARDED &&
		!errors.Is(err, errGone) && !errors.Is(err, ErrInterrupted)
}

func (c *carriage) do(ctx context.Context, e errand) error {
	switch e {
	case carryNew, carryOn:
		return c.carry(ctx)
	case settleIt:
		return c.settle(ctx)
	case refuseIt:
		return c.verdict(ctx, adapterpb.Verdict_VERDICT_SUSPENDED)
	case confirmIt:
		return c.verdict(ctx, adapterpb.Verdict_VERDICT_DELIVERED)
	}
	return nil
}

// carry reads the item, commits what it is and where it goes, delivers it to every
// port that lacks it, and settles it.
func (c *carriage) carry(ctx context.Context) error {
	c.at(StepOffered)
	if c.m == nil {
		if err := c.read(ctx); err != nil {
			return err
		}
		c.at(StepTaken)
	}
	if len(c.fate.GetPending()) == 0 {
		if err := c.route(ctx); err != nil {
			return err
		}
	}
	c.at(StepIntended)
	if reason := c.deliver(ctx, c.m); reason != nil {
		if s := (*suspension)(nil); errors.As(reason, &s) {
			return c.suspend(ctx, s.reason)
		}
		return reason
	}
	c.at(StepDelivered)
	return c.settle(ctx)
}

// route finds out where the message goes and commits that with its ID, before
// anything is sent.
func (c *carriage) route(ctx context.Context) error {
	ports, err := c.r.loc.Ports, error(nil)
	if c.r.loc.Route != nil {
		ports, err = c.r.loc.Route(c.m.GetContext())
	}
	c.at(StepRouted)
	switch {
	case err != nil:
		return c.refuse(ctx, "it cannot be routed: "+err.Error())
	case len(ports) == 0:
		return c.refuse(ctx, "no route matches it")
	}
	for _, port := range ports {
		c.tell(Happening{Kind: "routed", Port: port})
	}
	return c.intend(ctx, ports)
}

// intend fixes message ID and ports.
func (c *carriage) intend(ctx context.Context, ports []string) error {
	next := &pb.Fate{
		State: pb.Fate_INTENDED, MessageId: c.id, Pending: slices.Clone(ports), OrderKey: c.lane, Recall: c.fate.GetRecall(),
	}
	if err := c.commit(ctx, c.intent(ports)); err != nil {
		return c.notIntended(err)
	}
	c.set(next)
	return nil
}

func (c *carriage) intent(ports []string) *pb.FateChange {
	return &pb.FateChange{Change: &pb.FateChange_Intend{Intend: &pb.Intend{MessageId: c.id, Ports: ports, OrderKey: c.lane}}}
}

// notIntended looks why an intent was refused; never nil.
func (c *carriage) notIntended(err error) error {
	if errors.Is(err, ledger.ErrIllegal) {
		// An intent of the same tenure, whose answer was lost, came first: go on from
		// what the ledger has.
		if was := c.r.e.cfg.Fate(c.r.loc.Name, c.item.GetKey()); was != nil {
			c.doubt = true
			c.set(was)
			c.id, c.m = was.GetMessageId(), nil // it is read again, under that ID
		}
	}
	return fmt.Errorf("intend: %w", err)
}

// suspension is the outcome of a port that gave up. final: no other port is to get
// the message instead.
type suspension struct {
	port, reason string
	final        bool
}

func (s *suspension) Error() string { return s.reason }

// outcome is where a message has gone in the end, and whether it got there.
type outcome struct {
	port string
	err  error
}

// deliver sends the message to every port that lacks it, at the same time. It
// returns nil when all have it, a suspension when all have ended and one gave up.
func (c *carriage) deliver(ctx context.Context, m *Message) error {
	ports := slices.Clone(c.fate.GetPending())
	outcomes := make([]outcome, len(ports))
	if len(ports) == 1 {
		outcomes[0] = c.sendTo(ctx, ports[0], m)
	} else {
		var wg sync.WaitGroup
		for i, port := range ports {
			wg.Go(func() { outcomes[i] = c.sendTo(ctx, port, m) })
		}
		wg.Wait()
	}
	next := &pb.Fate{
		State: pb.Fate_INTENDED, MessageId: c.id, OrderKey: c.fate.GetOrderKey(), Recall: c.fate.GetRecall(),
		Delivered: slices.Clone(c.fate.GetDelivered()),
	}
	for _, o := range outcomes {
		if o.err == nil {
			next.Delivered = append(next.Delivered, o.port)
		} else {
			next.Pending = append(next.Pending, o.port)
		}
	}
	if len(next.Pending) == 0 {
		next.State = pb.Fate_DELIVERED
	} else {
		c.doubt = true
	}
	c.set(next)
	return gaveUp(outcomes)
}

// gaveUp is the error of those that did not give up, or else of those that did.
func gaveUp(outcomes []outcome) error {
	var all error
	for _, o := range outcomes {
		if s := (*suspension)(nil); o.err != nil && !errors.As(o.err, &s) {
			return o.err
		}
		all = errors.Join(all, o.err)
	}
	return all
}

// settle has the source remove the item, and has it noted that it did. Nothing waits
// for that note: without it the item is found to be gone, or settled once more.
func (c *carriage) settle(ctx context.Context) error {
	state := c.fate.GetState()
	if state != pb.Fate_DELIVERED && state != pb.Fate_DISCARDED || c.item.GetKept() {
		return nil
	}
	c.at(StepSettling)
	if err := c.verdict(ctx, adapterpb.Verdict_VERDICT_DELIVERED); err != nil {
		return err
	}
	c.at(StepSettled)
	c.tell(Happening{Kind: "settled"})
	if c.unrecorded() {
		return nil
	}
	key := c.item.GetKey()
	change := &pb.FateChange{Location: c.r.loc.Name, Key: key, Change: &pb.FateChange_Settled{Settled: &pb.Settled{}}}
	c.r.e.committer.later(ctx, change, func(err error) {
		if err != nil {
			return // the tenure is over, or nobody knows the item any more
		}
		c.at(StepDone)
		c.r.setFate(key, &pb.Fate{State: pb.Fate_SETTLED, MessageId: c.id}, false)
	})
	return nil
}

// verdict tells the source what became of the item, and waits until it has
// confirmed.
func (c *carriage) verdict(ctx context.Context, v adapterpb.Verdict) error {
	reply, err := c.ask(ctx, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{
		Location: c.r.loc.Name, Key: c.item.GetKey(), Verdict: v,
	}}})
	if err != nil {
		return err
	}
	if e := reply.GetSettled().GetError(); e != nil && e.GetKind() != adapterpb.Error_GONE {
		return fmt.Errorf("settle: %w", fromWire(e))
	}
	return nil
}

const (
	// maxKeptContext bounds the context that is kept with a suspended item, in bytes,
	// maxKeptValue one value of it; maxKeptAttempts the attempts.
	maxKeptContext  = 4 << 10
	maxKeptValue    = 512
	maxKeptAttempts = 10
)

// refuse suspends an item that cannot be sent anywhere as it is; never nil.
func (c *carriage) refuse(ctx context.Context, reason string) error {
	return cmp.Or(c.suspend(ctx, reason), errEnded)
}

// suspend leaves the item for somebody to decide about. It returns nil when that is
// committed; what is not in the ledger yet goes into the same entry.
func (c *carriage) suspend(ctx context.Context, reason string) error {
	c.log().Error("item suspended", "reason", reason)
	changes := append(c.firstWords(), c.suspension(reason))
	if err := c.commit(ctx, changes...); err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	c.tell(Happening{Kind: "suspended", Text: reason})
	c.set(&pb.Fate{
		State: pb.Fate_SUSPENDED, MessageId: c.id, Reason: reason, OrderKey: c.lane,
		Pending: c.fate.GetPending(), Delivered: c.fate.GetDelivered(),
	})
	// Somebody may have decided already, before this owner looked.
	c.r.refreshItem(c.item.GetKey())
	if c.pushed {
		return c.verdict(ctx, adapterpb.Verdict_VERDICT_SUSPENDED)
	}
	return nil
}

// firstWords are the changes that make the item known to the ledger as far as it has
// come, if it is not.
func (c *carriage) firstWords() (changes []*pb.FateChange) {
	if c.fate != nil && !c.unrecorded() {
		return nil
	}
	c.recorded = true
	reached := c.fate.GetDelivered()
	changes = append(changes, c.intent(slices.Concat(c.fate.GetPending(), reached)))
	if len(reached) > 0 {
		changes = append(changes, &pb.FateChange{Change: &pb.FateChange_Delivered{Delivered: &pb.Delivered{Ports: reached}}})
	}
	return changes
}

func (c *carriage) suspension(reason string) *pb.FateChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &pb.FateChange{Change: &pb.FateChange_Suspend{Suspend: &pb.Suspend{
		Reason: reason, Name: c.name(), Context: bounded(c.r.properties(c.item), c.m.GetContext()), Attempts: slices.Clone(c.attempts),
	}}}
}

// bounded is what is kept of the properties of a suspended item.
func bounded(item, message map[string]string) map[string]string {
	all := maps.Clone(item)
	maps.Copy(all, message)
	kept, size := map[string]string{}, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if len(value) > maxKeptValue {
			value = strings.ToValidUTF8(value[:maxKeptValue], "") + "..."
		}
		if size += len(name) + len(value); size > maxKeptContext {
			break
		}
		kept[name] = value
	}
	return kept
}

// ask sends one request to the handler and waits for its answer, or the handler's
// end.
func (c *carriage) ask(ctx context.Context, m *adapterpb.ToAdapter) (*adapterpb.FromAdapter, error) {
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	if err := c.link.Send(ctx, m); err != nil {
		return nil, fmt.Errorf("source's handler: %w: %w", ErrInterrupted, err)
	}
	select {
	case reply := <-c.replies:
		return reply, nil
	case <-c.link.Done():
		return nil, fmt.Errorf("source's handler ended: %w", ErrInterrupted)
	case <-limit.C:
		return nil, fmt.Errorf("source's handler has not answered for %v: %w", answerLimit, ErrInterrupted)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unrecorded reports whether the ledger is to know nothing of the item unless it is
// suspended. What the source keeps has to be known, or it would be sent at every
// poll; so has what is known already.
func (c *carriage) unrecorded() bool {
	return c.r.loc.AtLeastOnce && !c.item.GetKept() && !c.recorded
}

// commit commits changes of the item's fate, if the ledger is to know them.
func (c *carriage) commit(ctx context.Context, changes ...*pb.FateChange) error {
	if c.unrecorded() {
		return nil
	}
	for _, change := range changes {
		change.Location, change.Key = c.r.loc.Name, c.item.GetKey()
	}
	return c.r.e.committer.commit(ctx, changes...)
}

func (c *carriage) set(f *pb.Fate) {
	c.fate = f
	if c.unrecorded() {
		return
	}
	doubt := f.GetState() == pb.Fate_INTENDED && c.doubt
	c.r.setFate(c.item.GetKey(), f, doubt)
}

// name is what people know the item by.
func (c *carriage) name() string {
	for _, property := range []string{"ftp.name", "sftp.name", "file.name", "mail.message_id", "queue.message_id"} {
		if v := c.item.GetContext()[property]; v != "" {
			return v
		}
	}
	return c.item.GetKey()
}

func (c *carriage) log() *slog.Logger {
	return c.r.log.With("item", c.name(), "message", c.id)
}
