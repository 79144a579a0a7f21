package guardian

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/fairlead-io/fairlead/runtime/transport"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

const (
	// warmPeers are connected to while the descendants are being killed.
	warmPeers = 3
	// stagger is the lead that each peer has over the next: the first, the leader, most
	// often answers within it.
	stagger = 25 * time.Millisecond
	// callLimit bounds one call. Without a leader a peer may wait for an election.
	callLimit = time.Second
	// firstRetry doubles up to longestRetry, between rounds in which nobody took it.
	firstRetry   = 50 * time.Millisecond
	longestRetry = 500 * time.Millisecond
)

var errNoPeers = errors.New("no other node is known")

// Messenger carries notices to peers over their cluster port. All methods may be called
// at the same time.
type Messenger struct{ tls atomic.Pointer[tls.Config] }

// SetTLS sets what the next errands use; see transport.Config. Nil: no TLS.
func (m *Messenger) SetTLS(secured *tls.Config) { m.tls.Store(secured) }

// Prepare opens connections to the first peers; see Config.
func (m *Messenger) Prepare(peers []string) Errand {
	e := &errand{peers: peers, conns: map[string]*grpc.ClientConn{}}
	for i, address := range peers {
		conn, err := transport.Dial(address, m.tls.Load())
		if err != nil {
			e.bad = append(e.bad, err) // not an address
			continue
		}
		e.conns[address] = conn
		if i < warmPeers {
			conn.Connect()
		}
	}
	return e
}

type errand struct {
	peers []string
	conns map[string]*grpc.ClientConn
	bad   []error
}

// Deliver implements Errand.
func (e *errand) Deliver(ctx context.Context, n Notice) error {
	defer func() {
		for _, conn := range e.conns {
			_ = conn.Close()
		}
	}()
	var reachable []string
	for _, address := range e.peers {
		if e.conns[address] != nil {
			reachable = append(reachable, address)
		}
	}
	if len(reachable) == 0 {
		return errors.Join(append(e.bad, errNoPeers)...)
	}
	return deliver(ctx, reachable, func(ctx context.Context, address string) error {
		_, err := peerpb.NewPeerClient(e.conns[address]).Died(ctx, &peerpb.DiedRequest{Node: n.Node, Proof: n.Proof, Reason: n.Reason})
		if err != nil {
			return fmt.Errorf("node at %s: %w", address, err)
		}
		return nil
	})
}

// deliver calls the peers in rounds until one takes the notice or ctx ends.
func deliver(ctx context.Context, peers []string, call func(ctx context.Context, address string) error) error {
	for pause := firstRetry; ; pause = min(2*pause, longestRetry) {
		err := round(ctx, peers, call)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// round calls the peers one after the other, each a little later than the one before or
// when all before have failed, and returns nil with the first success. It returns when
// all calls have.
func round(ctx context.Context, peers []string, call func(ctx context.Context, address string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan error, len(peers))
	begun, answered := 0, 0
	defer func() {
		cancel()
		for ; answered < begun; answered++ {
			<-answers //nolint:errcheck // the round is decided; this only waits for its end
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for answered < len(peers) {
		var due <-chan time.Time
		if begun < len(peers) {
			due = next.C
		}
		select {
		case <-due:
			address := peers[begun]
			begun++
			next.Reset(stagger)
			go func() { // round waits for its answer
				ctx, cancel := context.WithTimeout(ctx, callLimit)
				defer cancel()
				answers <- call(ctx, address)
			}()
		case err := <-answers:
			answered++
			if err == nil {
				return nil
			}
			errs = append(errs, err)
			if answered == begun {
				next.Reset(0)
			}
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	return errors.Join(errs...)
}
