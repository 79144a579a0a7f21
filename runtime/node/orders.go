package node

import (
	"context"
	"slices"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// orders is what people have ordered about endpoints and messages, as far as a crew
// has to know: that it has changed shows in the newest events.
type orders struct {
	event, items uint64
}

func ordersOf(s *pb.State) orders {
	o := orders{event: ledger.LastEvent(s)}
	// The newest order about items; fates of the others are the owner's own doing.
	for _, e := range slices.Backward(s.GetItemEvents()) {
		if e.GetKind() == "items-resumed" || e.GetKind() == "items-discarded" {
			o.items = e.GetIndex()
			break
		}
	}
	return o
}

// followOrders lets the crew's exchange know what people have ordered, until ctx ends.
func (w *work) followOrders(ctx context.Context, c *crew, locations []string) {
	changes, stop := w.n.ledger.Changes()
	defer stop()
	var known orders
	for {
		stopped := map[string]bool{}
		var now orders
		w.n.ledger.View(func(s *pb.State) {
			if now = ordersOf(s); now == known {
				return
			}
			for _, name := range locations {
				stopped[name] = s.GetStoppedLocations()[name] != 0
			}
		})
		if now != known {
			known = now
			for name, is := range stopped {
				c.exchange.SetStopped(name, is)
			}
			c.exchange.Refresh()
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
	}
}
