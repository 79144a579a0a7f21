package simulation

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// sabotage is a safety mechanism that is switched off, to see that the checkers
// would tell; empty: none is. All of it is done from outside, by what the real parts are given.
type sabotage string

const (
	// anyEpoch: the ledger takes fates under whatever epoch.
	anyEpoch sabotage = "the epoch of fates is not checked"
	// hasty: a new leader does not wait out the leases that earlier ones granted.
	hasty sabotage = "a new leader does not wait"
	// fromAnswer: a lease is counted from when the answer came.
	fromAnswer sabotage = "a lease is counted from the answer"
	// undead: incarnations that have expired are granted leases.
	undead sabotage = "expired incarnations are granted leases"
	// drowsy: leases are measured with a clock that stops during suspend.
	drowsy sabotage = "the clock stops during suspend"
	// blind: plugins do not look at the lease themselves.
	blind sabotage = "plugins do not check the lease"
	// racing: the clock of the leader is faster than the margin allows for.
	racing sabotage = "the leader's clock is a third too fast"
)

var sabotages = []sabotage{anyEpoch, hasty, fromAnswer, undead, drowsy, blind, racing}

// door is where the leader takes commands of others.
func (s sabotage) door(leader *process, c *pb.Command) *pb.Command {
	if s != anyEpoch || c.GetFates() == nil {
		return c
	}
	c = proto.CloneOf(c)
	leader.ledger.View(func(st *pb.State) {
		if g := st.GetGroups()[c.GetFates().GetGroup()]; g.GetIncarnation() != "" {
			c.GetFates().Epoch, c.GetFates().Incarnation = g.Epoch, g.Incarnation
		}
	})
	return c
}

// log is the ledger as the coordinator has it.
func (s sabotage) log(p *process) ownership.Log {
	if s == hasty {
		return hastyLog{replica{p}}
	}
	return replica{p}
}

// hastyLog ends, right after an election, every incarnation that the new leader has
// not heard of.
type hastyLog struct{ replica }

func (h hastyLog) Barrier(ctx context.Context) error {
	if err := h.replica.Barrier(ctx); err != nil {
		return err
	}
	var elected uint64
	h.View(func(s *pb.State) { elected = s.GetIndex() })
	h.p.n.w.tasks.Go(func() {
		if !pause(ctx, ttl/10) {
			return
		}
		var over []*pb.Expire
		h.View(func(s *pb.State) {
			for id, session := range s.GetSessions() {
				if !session.Expired && session.Granted <= elected {
					over = append(over, &pb.Expire{Incarnation: id, Granted: session.Granted, Reason: "haste"})
				}
			}
		})
		for _, e := range over {
			_, _ = h.Apply(ctx, &pb.Command{Kind: &pb.Command_Expire{Expire: e}})
		}
	})
	return nil
}

// leaderClock is what the coordinator waits out leases with.
func (s sabotage) leaderClock(p *process) func() bootclock.Time {
	if s == racing {
		return func() bootclock.Time { return p.n.clock() + p.n.clock()/3 }
	}
	return p.n.clock
}

// tenantClock is how the tenant renews, and the clock it measures its lease with.
func (s sabotage) tenantClock(p *process) (func(context.Context, string) error, func() bootclock.Time) {
	switch s {
	case drowsy:
		return p.renew, p.n.uptime
	case undead:
		return func(ctx context.Context, id string) error {
			if err := p.renew(ctx, id); !errors.Is(err, ledger.ErrFenced) {
				return err
			}
			return nil
		}, p.n.clock
	case fromAnswer:
		// The tenant's clock is put back by the time that each renewal took.
		return func(ctx context.Context, id string) error {
			sent := p.n.clock()
			err := p.renew(ctx, id)
			if err == nil {
				p.putBack.Add(int64(p.n.clock().Sub(sent)))
			}
			return err
		}, func() bootclock.Time { return p.n.clock().Add(-time.Duration(p.putBack.Load())) }
	}
	return p.renew, p.n.clock
}

// deadline is the end of a lease by the clock that plugins look at.
func (p *process) deadline(l *ownership.Lease) bootclock.Time {
	return l.Deadline().Add(time.Duration(p.putBack.Load()))
}

// pluginClockLocked is the clock that plugins compare their deadline with.
func (s sabotage) pluginClockLocked(n *node) bootclock.Time {
	if s == drowsy {
		return n.uptimeLocked()
	}
	return n.clock()
}

func (s sabotage) ignoresLease() bool { return s == blind }
