// Package membership knows which nodes are there and what they say of themselves.
// It is a hint, quick and cheap, from gossip (hashicorp/memberlist); it never
// decides who owns what.
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config is what Start needs.
type Config struct {
	// Node is this node's name: each node of the cluster has its own.
	Node string
	// Cluster keeps clusters apart that find each other by mistake.
	Cluster string
	// Address to gossip on, TCP and UDP, as host:port.
	Address string
	// Advertise is the address that others use, as host:port. Default: Address.
	Advertise string
	// Join are addresses of nodes to begin with, as host:port; this node's own may
	// stand among them.
	Join []string
	// Key encrypts the gossip; 16, 24 or 32 bytes, or none.
	Key []byte
	// Profile is local, lan or wan.
	Profile string
	// Meta is what the node says of itself at first.
	Meta Meta
	Log  *slog.Logger

	// For tests: transport takes the place of the sockets, toTheDead of the time for
	// which memberlist remembers dead nodes.
	transport memberlist.Transport
	toTheDead time.Duration
}

const (
	// updateTimeout bounds the spreading of what the node says of itself.
	updateTimeout = 2 * time.Second
	// leaveTimeout bounds the spreading of its farewell.
	leaveTimeout = 2 * time.Second
)

// Membership is this node's part in the gossip. Safe for concurrent use.
type Membership struct {
	cfg    Config
	log    *slog.Logger
	list   *memberlist.Memberlist
	table  *table
	ctx    context.Context // ends when Leave or Stop begins
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	leaveOnce, stopOnce sync.Once
	leaveErr, stopErr   error

	// updateMu lets one Update spread after the other: of two at once the older
	// could win. It is held for updateTimeout at most.
	updateMu sync.Mutex

	mu   sync.Mutex
	meta Meta
}

// Start begins to gossip, and looks for the other nodes until it finds them.
func Start(cfg Config) (*Membership, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Meta.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Membership{
		cfg: cfg, log: cfg.Log, ctx: ctx, cancel: cancel,
		meta: cfg.Meta, table: newTable(cfg.Log, time.Now),
	}
	c, err := m.config()
	if err != nil {
		cancel()
		return nil, err
	}
	if m.list, err = memberlist.Create(c); err != nil {
		cancel()
		return nil, fmt.Errorf("gossip on %s (listen.gossip): %w", cfg.Address, err)
	}
	m.tasks.Go(m.rejoin)
	return m, nil
}

func (m *Membership) config() (*memberlist.Config, error) {
	t, ok := timings[m.cfg.Profile]
	if !ok {
		return nil, fmt.Errorf("profile %q: want local, lan or wan", m.cfg.Profile)
	}
	bind, err := net.ResolveTCPAddr("tcp", m.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q (listen.gossip): %w", m.cfg.Address, err)
	}
	c := t.config()
	c.GossipToTheDeadTime = cmp.Or(m.cfg.toTheDead, c.GossipToTheDeadTime)
	d := &delegate{m}
	c.Name, c.Label = m.cfg.Node, m.cfg.Cluster
	c.BindAddr, c.BindPort, c.AdvertisePort = bind.IP.String(), bind.Port, bind.Port
	if bind.IP == nil {
		c.BindAddr = "0.0.0.0"
	}
	if m.cfg.Advertise != "" {
		other, err := net.ResolveTCPAddr("tcp", m.cfg.Advertise)
		if err != nil {
			return nil, fmt.Errorf("advertised gossip address %q: %w", m.cfg.Advertise, err)
		}
		c.AdvertiseAddr, c.AdvertisePort = other.IP.String(), other.Port
	}
	c.SecretKey = m.cfg.Key
	c.Transport = m.cfg.transport
	c.Delegate, c.Events, c.Conflict, c.Alive = d, d, d, d
	c.LogOutput = nil
	c.Logger = newLogger(m.log)
	return c, nil
}

// Address is where this node gossips, as others see it.
func (m *Membership) Address() string {
	// Not memberlist's LocalNode: it gives out what it goes on writing to.
	self, _ := m.table.one(m.cfg.Node)
	return self.Address
}

// Members are all nodes that this one has seen, itself among them, by name. Those
// that are gone stay for a day.
func (m *Membership) Members() []Member {
	list := m.table.all()
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Member returns one node.
func (m *Membership) Member(name string) (Member, bool) { return m.table.one(name) }

// OtherClusters are the IDs of other clusters of the same name and key that nodes
// which were kept out belong to.
func (m *Membership) OtherClusters() []string { return slices.Compact(m.table.clusters()) }

// Changes returns a channel with a signal after members or what they say have
// changed, or a node of another cluster was kept out; several changes may give one signal. stop ends it.
func (m *Membership) Changes() (changes <-chan struct{}, stop func()) { return m.table.changes() }

// Update changes what this node says of itself and spreads it. An error means that
// it does not fit, or that the others do not know it yet: they will.
func (m *Membership) Update(change func(*Meta)) error {
	m.updateMu.Lock()
	defer m.updateMu.Unlock()
	next := m.said()
	change(&next)
	if err := next.check(); err != nil {
		return err
	}
	m.mu.Lock()
	m.meta = next
	m.mu.Unlock()
	if err := m.list.UpdateNode(updateTimeout); err != nil {
		return fmt.Errorf("spread node metadata: %w", err)
	}
	return nil
}

func (m *Membership) said() Meta {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta
}

// Leave tells the others that this node goes, so that they need not suspect
// anything, within ctx. It may be called more than once, and after Stop.
func (m *Membership) Leave(ctx context.Context) error {
	m.leaveOnce.Do(func() {
		m.cancel()
		limit := leaveTimeout
		if d, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(d))
		}
		if limit <= 0 || ctx.Err() != nil {
			m.leaveErr = fmt.Errorf("left the gossip without a farewell: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded))
			return
		}
		m.mu.Lock()
		m.meta.leaving = true
		m.mu.Unlock()
		if err := errors.Join(m.list.UpdateNode(limit/2), m.list.Leave(limit/2)); err != nil {
			m.leaveErr = fmt.Errorf("leave the gossip: %w", err)
		}
	})
	return m.leaveErr
}

// Stop leaves, if that was not done before, and ends the gossip, within ctx. It may
// be called more than once.
func (m *Membership) Stop(ctx context.Context) error {
	m.stopOnce.Do(func() { m.stopErr = m.stop(ctx) })
	return m.stopErr
}

func (m *Membership) stop(ctx context.Context) error {
	err := errors.Join(m.Leave(ctx), m.list.Shutdown())
	// Last, because an attempt to join that is under way can be neither cut short
	// nor waited for before the others are told.
	ended := make(chan struct{})
	go func() { defer close(ended); m.tasks.Wait() }()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("stop the gossip: %w", ctx.Err()))
	}
}

// delegate is what memberlist calls, with its own lock held: it only takes notes.
type delegate struct{ m *Membership }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
)

func (d *delegate) NodeMeta(limit int) []byte { return d.m.said().encode(limit) }

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.note(n, Alive) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.note(n, Alive) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.note(n, Dead) }

func (d *delegate) note(n *memberlist.Node, state State) {
	meta, err := decodeMeta(n.Meta)
	// Memberlist keeps apart who is dead and who has left, but does not tell: the
	// field for it in n is never set. So the node says it itself.
	if state == Dead && meta.leaving {
		state = Left
	}
	d.m.table.note(Member{Name: n.Name, Address: gossipAddress(n), State: state, Meta: meta}, err)
}

func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.m.table.conflict(existing.Name, gossipAddress(existing), gossipAddress(other))
}

// NotifyAlive keeps nodes of other clusters out, which have the same name and key:
// two clusters that were made apart must not take each other's nodes for their own.
// A node that belongs to none yet is let in.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		return nil // a later version may write what this one cannot read
	}
	mine := d.m.said().ClusterID
	if mine == "" || meta.ClusterID == "" || meta.ClusterID == mine {
		return nil
	}
	d.m.table.foreign(n.Name, gossipAddress(n), meta.ClusterID, mine)
	return fmt.Errorf("it belongs to cluster %s, this node to %s", meta.ClusterID, mine)
}

func gossipAddress(n *memberlist.Node) string {
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}
