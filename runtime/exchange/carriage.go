package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// inlineMax is the size up to which content stays in memory.
	inlineMax = 256 << 10
	// unknownSize is the room reserved for an item whose size is not known.
	unknownSize = 64 << 20
	// answerLimit bounds the wait for an adapter's answer. The SDK ends every call
	// of an adapter within the hour, so nothing is to come after it.
	answerLimit = 70 * time.Minute
)

var (
	errDraining = errors.New("the host is draining")
	errGone     = errors.New("the item is not at the source any more")
	// errEnded: the item has come to the end of its way without being read.
	errEnded = errors.New("ended")
)

// carriage is one item on its way. Its steps are in run's order; each is committed
// before the next begins, so that whoever comes after a crash finds the item at
// the step it had reached.
type carriage struct {
	r      *receiver
	link   Link
	item   *adapterpb.Item
	pushed bool
	fate   *pb.Fate // committed so far; nil: none
	// doubt: an attempt from before this carriage may have arrived.
	doubt   bool
	replies chan *adapterpb.FromAdapter
	// again is a later offer of the same item, to be answered afterwards; guarded
	// by the receiver's lock.
	again *candidate
}

// run does what the item needs. Errors end the carriage where it stands; the next
// listing, offer or owner takes it up again.
func (c *carriage) run(ctx context.Context, e errand) {
	var err error
	switch e {
	case carryNew:
		if err = c.intend(ctx); err == nil {
			err = c.carry(ctx)
		}
	case carryOn:
		err = c.carry(ctx)
	case settleIt:
		err = c.settle(ctx)
	case refuseIt:
		err = c.tell(ctx, adapterpb.Verdict_VERDICT_SUSPENDED)
	case confirmIt:
		err = c.tell(ctx, adapterpb.Verdict_VERDICT_DELIVERED)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, errDraining) || errors.Is(err, errEnded) {
		return
	}
	c.r.note(c.name(), err)
	c.log().Warn("item not carried through", "error", err)
	if c.pushed {
		// The broker would otherwise wait for an answer that does not come.
		_ = c.tell(ctx, adapterpb.Verdict_VERDICT_RETRY)
	}
}

// carry reads the item, delivers it to every port that lacks it, and settles it.
func (c *carriage) carry(ctx context.Context) error {
	m, room, err := c.read(ctx)
	if err != nil {
		return err
	}
	defer room.free()
	if reason := c.deliver(ctx, m); reason != nil {
		if s := (*suspension)(nil); errors.As(reason, &s) {
			return c.suspend(ctx, s.reason)
		}
		return reason
	}
	return c.settle(ctx)
}

// intend fixes the message ID before anything is sent.
func (c *carriage) intend(ctx context.Context) error {
	fate := &pb.Fate{State: pb.Fate_INTENDED, MessageId: c.r.e.cfg.NewID(), Pending: slices.Clone(c.r.loc.Ports)}
	err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Intend{
		Intend: &pb.Intend{MessageId: fate.MessageId, Ports: fate.Pending},
	}})
	if errors.Is(err, ledger.ErrIllegal) {
		// An intent of the same tenure, whose answer was lost, came first: go on
		// from what the ledger has.
		if was := c.r.e.cfg.Fate(c.r.loc.Name, c.item.GetKey()); was != nil {
			c.doubt = true
			c.set(was)
		}
	}
	if err != nil {
		return fmt.Errorf("intend: %w", err)
	}
	c.set(fate)
	return nil
}

// read takes the item's content into memory or the spool.
func (c *carriage) read(ctx context.Context) (*Message, *slot, error) {
	size := c.item.GetSize()
	if size < 0 {
		size = unknownSize
	}
	var room int64
	if size > inlineMax {
		room = size
	}
	waited := false
	slot, err := c.r.e.cfg.Spool.reserve(ctx, room, func() { waited = true; c.r.waitingForSpool(1) })
	if waited {
		c.r.waitingForSpool(-1)
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := c.take(ctx, slot, 2*size+1<<20)
	if err != nil {
		slot.free()
		return nil, nil, c.notRead(ctx, err)
	}
	c.r.note(c.name(), nil)
	return m, slot, nil
}

func (c *carriage) take(ctx context.Context, slot *slot, limit int64) (*Message, error) {
	dir, err := slot.path()
	if err != nil {
		return nil, err
	}
	reply, err := c.ask(ctx, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
		Location: c.r.loc.Name, Key: c.item.GetKey(), SpoolDir: dir, InlineMax: inlineMax, MaxBytes: limit,
	}}})
	if err != nil {
		return nil, err
	}
	if failed := reply.GetReadFailed(); failed != nil {
		return nil, fromWire(failed.GetError())
	}
	content := reply.GetContent()
	if len(content.GetParts()) == 0 {
		return nil, errors.New("the adapter answered without content")
	}
	return c.message(content), nil
}

// message puts together what travels. All of it is the same at every attempt.
func (c *carriage) message(content *adapterpb.Content) *Message {
	properties := map[string]string{}
	maps.Copy(properties, c.item.GetContext())
	maps.Copy(properties, content.GetContext())
	properties["fairlead.id"] = c.fate.GetMessageId()
	properties["fairlead.location"] = c.r.loc.Name
	if id, err := uuid.Parse(c.fate.GetMessageId()); err == nil {
		sec, nsec := id.Time().UnixTime()
		properties["fairlead.received_at"] = time.Unix(sec, nsec).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
	}
	return &Message{Id: c.fate.GetMessageId(), Context: properties, Parts: content.GetParts()}
}

// notRead decides what a failed read means for the item; never nil.
func (c *carriage) notRead(ctx context.Context, err error) error {
	var a *AdapterError
	if !errors.As(err, &a) {
		return err
	}
	switch a.Kind {
	case adapterpb.Error_GONE:
		if c.doubt {
			return fmt.Errorf("%w; it was in doubt", errGone)
		}
		// Nothing of it was ever sent, so nothing is owed.
		c.log().Warn("item vanished before it was read", "error", err)
		if err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Forget{Forget: &pb.Forget{}}}); err != nil {
			return err
		}
		c.set(nil)
		return errEnded
	case adapterpb.Error_PERMANENT:
		return cmp.Or(c.suspend(ctx, "it cannot be read: "+a.Text), errEnded)
	case adapterpb.Error_RETRYABLE:
		if c.r.readFailed(c.item.GetKey()) {
			reason := fmt.Sprintf("it could not be read %d times: %s", maxReadFailures, a.Text)
			return cmp.Or(c.suspend(ctx, reason), errEnded)
		}
	}
	return fmt.Errorf("read: %w", err)
}

// suspension is the outcome of a port that gave up.
type suspension struct{ port, reason string }

func (s *suspension) Error() string { return s.reason }

// deliver sends the message to every port that lacks it, at the same time. It
// returns nil when all have it, a suspension when all have ended and one gave up.
func (c *carriage) deliver(ctx context.Context, m *Message) error {
	var wg sync.WaitGroup
	ports := slices.Clone(c.fate.GetPending())
	outcomes := make([]error, len(ports))
	for i, port := range ports {
		wg.Go(func() { outcomes[i] = c.sendTo(ctx, port, m) })
	}
	wg.Wait()
	var gaveUp error
	next := &pb.Fate{State: pb.Fate_INTENDED, MessageId: m.GetId(), Delivered: slices.Clone(c.fate.GetDelivered())}
	for i, err := range outcomes {
		var s *suspension
		switch {
		case err == nil:
			next.Delivered = append(next.Delivered, ports[i])
			continue
		case errors.As(err, &s):
			gaveUp = errors.Join(gaveUp, err)
		}
		next.Pending = append(next.Pending, ports[i])
	}
	if len(next.Pending) == 0 {
		next.State = pb.Fate_DELIVERED
	} else {
		c.doubt = true
	}
	c.set(next)
	for _, err := range outcomes {
		var s *suspension
		if err != nil && !errors.As(err, &s) {
			return err
		}
	}
	return gaveUp
}

// settle has the source remove the item, and notes that it did.
func (c *carriage) settle(ctx context.Context) error {
	if c.fate.GetState() != pb.Fate_DELIVERED || c.item.GetKept() {
		return nil
	}
	if err := c.tell(ctx, adapterpb.Verdict_VERDICT_DELIVERED); err != nil {
		return err
	}
	if err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Settled{Settled: &pb.Settled{}}}); err != nil {
		return fmt.Errorf("settled: %w", err)
	}
	c.set(&pb.Fate{State: pb.Fate_SETTLED})
	return nil
}

// tell gives the source the verdict and waits until it has confirmed.
func (c *carriage) tell(ctx context.Context, v adapterpb.Verdict) error {
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

func (c *carriage) suspend(ctx context.Context, reason string) error {
	c.log().Error("item suspended", "message", c.fate.GetMessageId(), "reason", reason)
	err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Suspend{Suspend: &pb.Suspend{Reason: reason}}})
	if err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	c.set(&pb.Fate{State: pb.Fate_SUSPENDED, MessageId: c.fate.GetMessageId(), Reason: reason, Pending: c.fate.GetPending()})
	if c.pushed {
		return c.tell(ctx, adapterpb.Verdict_VERDICT_SUSPENDED)
	}
	return nil
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

func (c *carriage) commit(ctx context.Context, change *pb.FateChange) error {
	change.Location, change.Key = c.r.loc.Name, c.item.GetKey()
	return c.r.e.committer.commit(ctx, change)
}

func (c *carriage) set(f *pb.Fate) {
	c.fate = f
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
	return c.r.log.With("item", c.name(), "message", c.fate.GetMessageId())
}
