// Package membership knows which nodes are there and what they say of themselves.
// It is a hint, quick and cheap, from gossip (hashicorp/memberlist); it never
// decides who owns what.
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what gossip makes of a node.
type State string

// The states.
const (
	Alive State = "alive"
	Dead  State = "dead"
	Left  State = "left"
)

// Member is one node as this one sees it.
type Member struct {
	Name    string
	Address string // of its gossip port
	State   State
	Meta
}

// Config is what Start needs.
type Config struct {
	Node string
	// Cluster keeps clusters apart that find each other by mistake.
	Cluster string
	// Address to gossip on, as host:port.
	Address string
	// Join are addresses of nodes to begin with.
	Join []string
	// Key encrypts the gossip; 16, 24 or 32 bytes, or none.
	Key []byte
	// Profile is local, lan or wan.
	Profile string
	Meta    Meta
	Log     *slog.Logger

	// toTheDead is how long dead nodes are remembered; 0 for the profile's.
	toTheDead time.Duration
}

// rejoinEvery is the interval at which absent nodes are looked for: memberlist
// does not come back by itself after a long partition (memberlist#222).
const rejoinEvery = 3 * time.Second

// insistFor is how long after its start a node goes on to call on its seeds even if
// it sees them: with a new address it is refused until they take its former life
// for dead, and nobody tells it.
const insistFor = 30 * time.Second

// updateTimeout bounds the spreading of what the node says of itself.
const updateTimeout = 2 * time.Second

// Membership is this node's part in the gossip. Safe for concurrent use.
type Membership struct {
	cfg    Config
	began  time.Time
	list   *memberlist.Memberlist
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	once   sync.Once
	err    error

	mu      sync.Mutex
	meta    Meta
	members map[string]Member
	changed chan struct{} // of capacity 1: a signal after a change
}

// Start begins to gossip, and looks for the other nodes until it finds them.
func Start(cfg Config) (*Membership, error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Membership{
		cfg: cfg, began: time.Now(), ctx: ctx, cancel: cancel, meta: cfg.Meta,
		members: map[string]Member{}, changed: make(chan struct{}, 1),
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
	c, err := timing(m.cfg.Profile)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(m.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", m.cfg.Address, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: port: %w", m.cfg.Address, err)
	}
	if m.cfg.toTheDead > 0 {
		c.GossipToTheDeadTime = m.cfg.toTheDead
	}
	d := &delegate{m}
	c.Name, c.Label = m.cfg.Node, m.cfg.Cluster
	c.BindAddr, c.BindPort, c.AdvertisePort = host, number, number
	c.SecretKey = m.cfg.Key
	c.Delegate, c.Events, c.Conflict = d, d, d
	c.LogOutput = nil
	c.Logger = log.New(&logWriter{m.cfg.Log}, "", 0)
	return c, nil
}

// timing is the gossip's share of a profile. With these a dead node is noticed in
// about 1, 3 and 15 s.
func timing(profile string) (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.RetransmitMult = 4
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = 5 * time.Second
	c.GossipToTheDeadTime = time.Minute
	c.DeadNodeReclaimTime = 5 * time.Second
	switch profile {
	case "local":
		c.ProbeInterval, c.ProbeTimeout = 250*time.Millisecond, 150*time.Millisecond
		c.DeadNodeReclaimTime = time.Second
	case "lan":
		c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
		c.SuspicionMult, c.SuspicionMaxTimeoutMult = 4, 3
	case "wan":
		c.ProbeInterval, c.ProbeTimeout = 3*time.Second, 1500*time.Millisecond
		c.SuspicionMult, c.SuspicionMaxTimeoutMult = 4, 3
		c.GossipInterval = 300 * time.Millisecond
	default:
		return nil, fmt.Errorf("profile %q: want local, lan or wan", profile)
	}
	return c, nil
}

// Members are all nodes that this one has seen, itself among them, by name.
func (m *Membership) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Member, 0, len(m.members))
	for _, member := range m.members {
		list = append(list, member)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Member returns one node.
func (m *Membership) Member(name string) (Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	member, ok := m.members[name]
	return member, ok
}

// Changes carries a signal after members or what they say has changed. It has one
// reader.
func (m *Membership) Changes() <-chan struct{} { return m.changed }

// Update changes what this node says of itself and spreads it.
func (m *Membership) Update(change func(*Meta)) error {
	m.mu.Lock()
	change(&m.meta)
	m.mu.Unlock()
	return m.list.UpdateNode(updateTimeout)
}

// rejoin looks for the nodes it was told of, and for those it has lost.
func (m *Membership) rejoin() {
	found := false
	for {
		if absent := m.absent(); len(absent) > 0 {
			n, err := m.join(absent)
			switch {
			case n > 0 && !found:
				found = true
				m.cfg.Log.Info("found other nodes", "contacted", n)
			case n == 0:
				m.cfg.Log.Debug("no other node answers yet", "tried", absent, "error", err)
			}
		}
		wait := rejoinEvery/2 + rand.N(rejoinEvery)
		if m.list.NumMembers() == 1 {
			wait /= 6 // alone: be quick
		}
		timer := time.NewTimer(wait)
		select {
		case <-m.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// join tries the addresses one by one: each that is silent takes memberlist's
// TCPTimeout, and Stop must not wait for all of them.
func (m *Membership) join(addresses []string) (contacted int, err error) {
	for _, address := range addresses {
		if m.ctx.Err() != nil {
			break
		}
		n, failed := m.list.Join([]string{address})
		contacted, err = contacted+n, errors.Join(err, failed)
	}
	return contacted, err
}

// absent are the addresses to look for: seeds and lost members that are not among
// the living.
func (m *Membership) absent() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	living := map[string]bool{}
	for _, member := range m.members {
		if member.State == Alive {
			living[member.Address] = true
		}
	}
	self := m.members[m.cfg.Node].Address
	living[m.cfg.Address] = true
	insist := time.Since(m.began) < insistFor
	var addresses []string
	for _, seed := range m.cfg.Join {
		if !living[seed] || insist && seed != self && seed != m.cfg.Address {
			addresses = append(addresses, seed)
		}
	}
	for _, member := range m.members {
		if member.State == Dead && !living[member.Address] && !slices.Contains(addresses, member.Address) {
			addresses = append(addresses, member.Address)
		}
	}
	return addresses
}

func (m *Membership) note(n *memberlist.Node, state State) {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		m.cfg.Log.Warn("node says something that this version cannot read", "node", n.Name, "error", err)
	}
	m.mu.Lock()
	m.members[n.Name] = Member{Name: n.Name, Address: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))), State: state, Meta: meta}
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Stop leaves, so that the others need not suspect anything, and ends the gossip,
// within ctx. It may be called more than once.
func (m *Membership) Stop(ctx context.Context) error {
	m.once.Do(func() {
		m.cancel()
		limit := 2 * time.Second
		if d, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(d))
		}
		if limit > 0 {
			m.mu.Lock()
			m.meta.Leaving = true
			m.mu.Unlock()
			m.err = errors.Join(m.list.UpdateNode(limit/2), m.list.Leave(limit/2))
		}
		m.err = errors.Join(m.err, m.list.Shutdown())
		// Last, because an attempt to join that is under way can be neither cut short
		// nor waited for before the others are told.
		ended := make(chan struct{})
		go func() { defer close(ended); m.tasks.Wait() }()
		select {
		case <-ended:
		case <-ctx.Done():
			m.err = errors.Join(m.err, fmt.Errorf("stop gossip: %w", ctx.Err()))
		}
	})
	return m.err
}

// delegate is what memberlist calls, with its own lock held: it only takes notes.
type delegate struct{ m *Membership }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
)

func (d *delegate) NodeMeta(limit int) []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.meta.encode(limit)
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.m.note(n, Alive) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.m.note(n, Alive) }
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	// memberlist does not tell which of the two it is: it keeps the state next to
	// the node that it shows, whose own field is never set. So the node says it.
	state := Dead
	if meta, err := decodeMeta(n.Meta); err == nil && meta.Leaving {
		state = Left
	}
	d.m.note(n, state)
}

func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.m.cfg.Log.Error("two nodes have the same name; give each its own node.name",
		"name", existing.Name, "one", existing.Address(), "other", other.Address())
}

// logWriter brings memberlist's lines, which begin with a level, into the log. What
// it warns of is everyday business where nodes come and go.
type logWriter struct{ log *slog.Logger }

func (w *logWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if prefix, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(prefix, "[") {
		if line = rest; prefix == "[ERR" {
			level = slog.LevelWarn
		}
	}
	if strings.Contains(line, "Failed to send") || strings.Contains(line, "Push/Pull with") || strings.Contains(line, "fallback TCP ping") {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, strings.TrimPrefix(line, "memberlist: "), "part", "gossip")
	return len(p), nil
}
