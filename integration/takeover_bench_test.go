package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/runtime/api"
)

// usualTrials is how many trials each cause of a takeover gets; TAKEOVER_TRIALS
// changes it.
const usualTrials = 30

// takeoverHost is the host that is taken over; its group has its name.
const takeoverHost = "intake"

// takeover is one cause for which a host goes from its owner to another node.
type takeover struct {
	name string
	// leads says where the ledger's leader has to be: at the owner or not. Nil: it
	// does not matter.
	leads *bool
	// hurt does it to the owner.
	hurt func(ctx context.Context, s *takeoverStage, owner *cluster.Node) error
	// heal brings the owner back.
	heal func(ctx context.Context, s *takeoverStage, owner *cluster.Node) error
	// restarts is how often the policy lets a failed host start again at the same
	// place.
	restarts int
}

func takeovers() []takeover {
	yes, no := true, false
	nothing := func(context.Context, *takeoverStage, *cluster.Node) error { return nil }
	order := func(name string) func(context.Context, *takeoverStage, *cluster.Node) error {
		return func(ctx context.Context, s *takeoverStage, owner *cluster.Node) error {
			return s.order(ctx, owner, name)
		}
	}
	kill := func(_ context.Context, _ *takeoverStage, owner *cluster.Node) error {
		_, err := owner.SignalParts(syscall.SIGKILL, cluster.Runtime)
		return err
	}
	// A guardian starts a runtime that dies again and again later and later; the next
	// trial gets a new one.
	start := func(_ context.Context, _ *takeoverStage, owner *cluster.Node) error {
		if owner.PID() != 0 {
			if err := owner.Kill(); err != nil {
				return err
			}
		}
		return owner.Start()
	}
	freeze := func(_ context.Context, _ *takeoverStage, owner *cluster.Node) error { return owner.Freeze() }
	thaw := func(_ context.Context, _ *takeoverStage, owner *cluster.Node) error { return owner.Thaw() }
	return []takeover{
		{name: "runtime-killed/leader-elsewhere", restarts: 1, leads: &no, hurt: kill, heal: start},
		{name: "runtime-killed/it-led-too", restarts: 1, leads: &yes, hurt: kill, heal: start},
		{
			name: "plugin-killed",
			hurt: func(_ context.Context, _ *takeoverStage, owner *cluster.Node) error {
				all, err := owner.Processes()
				for _, p := range all {
					if p.Adapter == "ftp" {
						return p.Signal(syscall.SIGKILL)
					}
				}
				return errors.Join(errors.New("no ftp handler"), err)
			},
			heal: nothing,
		},
		{
			name: "moved", restarts: 1,
			hurt: func(ctx context.Context, s *takeoverStage, _ *cluster.Node) error {
				_, err := s.c.Move(ctx, takeoverHost, "")
				return err
			},
			heal: nothing,
		},
		{name: "drained", restarts: 1, hurt: order(api.NodeDrain), heal: order(api.NodeResume)},
		{name: "node-gone/leader-elsewhere", restarts: 1, leads: &no, hurt: freeze, heal: thaw},
		{name: "node-gone/it-led-too", restarts: 1, leads: &yes, hurt: freeze, heal: thaw},
	}
}

// BenchmarkTakeover measures, for each cause, the time from the fault to the next
// owner's first command at the FTP server: three nodes on one machine, an idle host
// and the lan profile. Source of the times is the server's own journal, on the clock
// of the process that makes the fault. One iteration is all trials of one cause.
func BenchmarkTakeover(b *testing.B) {
	if testing.Short() {
		b.Skip("needs the built binaries and some minutes")
	}
	for _, standby := range []string{"cold", "warm"} {
		b.Run(standby, func(b *testing.B) {
			for _, cause := range takeovers() {
				b.Run(cause.name, func(b *testing.B) {
					s := newTakeoverStage(b, standby, cause.restarts)
					for b.Loop() {
						s.measure(cause, takeoverTrials(b))
					}
				})
			}
		})
	}
}

func takeoverTrials(b *testing.B) int {
	given := os.Getenv("TAKEOVER_TRIALS")
	if given == "" {
		return usualTrials
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		b.Fatalf("TAKEOVER_TRIALS=%q: want a number of trials", given)
	}
	return n
}

// takeoverStage is a cluster that polls an FTP server, and what the server saw.
type takeoverStage struct {
	b   *testing.B
	c   *cluster.Cluster
	rng *rand.Rand

	mu sync.Mutex
	// newest is the highest number of a session so far; logins are the times of first
	// commands, by session.
	newest uint32
	logins map[uint32]time.Time
	// arrived is closed and replaced at each login.
	arrived chan struct{}
}

func newTakeoverStage(b *testing.B, standby string, restarts int) *takeoverStage {
	s := &takeoverStage{b: b, rng: seed(b), logins: map[uint32]time.Time{}, arrived: make(chan struct{})}
	server, err := ftpd.Start(ftpd.Config{Root: b.TempDir(), User: "tester", Password: "secret", Log: s.saw})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	s.c = startCluster(b, 3, func(cfg *cluster.Config) { cfg.Profile = "lan" })
	// One connection, so that a new session is a new owner's.
	deploy(b, s.c, fmt.Sprintf(`
hosts:
  intake:
    clustered: true
    standby: %s
    restart: {max: %d, within: 1m}
    failover: {max: 60, within: 1m, retry_after: 1m}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, stable_for: 0s, connections: 1}
    schedule: {every: 100ms}
    to: [disk]
send_ports:
  disk: {host: intake, adapter: file, endpoint: {directory: %q}}
`, standby, restarts, server.Addr(), b.TempDir()), takeoverHost)
	return s
}

// saw is called by the server for everything that a client does.
func (s *takeoverStage) saw(e ftpd.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = max(s.newest, e.Session)
	if e.Command == "PASS" && e.Err == nil {
		s.logins[e.Session] = e.Time
		close(s.arrived)
		s.arrived = make(chan struct{})
	}
}

// sessions is the number of the newest session.
func (s *takeoverStage) sessions() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// loginAfter waits for the first session with a higher number.
func (s *takeoverStage) loginAfter(ctx context.Context, session uint32) (time.Time, error) {
	for {
		s.mu.Lock()
		var first time.Time
		for number, at := range s.logins {
			if number > session && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		arrived := s.arrived
		s.mu.Unlock()
		if !first.IsZero() {
			return first, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return first, fmt.Errorf("nobody logged in at the FTP server: %w", ctx.Err())
		}
	}
}

// measure does the trials and reports their distribution.
func (s *takeoverStage) measure(cause takeover, trials int) {
	gaps := make([]time.Duration, 0, trials)
	for len(gaps) < trials {
		gap, err := s.trial(cause)
		if err != nil {
			s.b.Fatalf("trial %d: %v", len(gaps)+1, err)
		}
		gaps = append(gaps, gap)
	}
	slices.Sort(gaps)
	for _, q := range []struct {
		name string
		at   float64
	}{{"min", 0}, {"median", 0.5}, {"p95", 0.95}, {"max", 1}} {
		// The smallest value that so large a share of the trials does not exceed.
		i := max(0, int(q.at*float64(len(gaps))+0.999999)-1)
		s.b.ReportMetric(float64(gaps[i].Microseconds())/1000, q.name+"-ms")
	}
	s.b.ReportMetric(0, "ns/op") // an iteration is many trials: its time says nothing
	s.b.ReportMetric(float64(len(gaps)), "trials")
}

// trial does the fault once and brings everything back.
func (s *takeoverStage) trial(cause takeover) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.b.Context(), 90*time.Second)
	defer cancel()
	owner, err := s.ready(ctx, cause.leads)
	if err != nil {
		return 0, err
	}
	// Somewhere between two polls, renewals and heartbeats.
	select {
	case <-time.After(time.Duration(s.rng.IntN(600)) * time.Millisecond):
	case <-ctx.Done():
	}
	before, at := s.sessions(), time.Now()
	if err := cause.hurt(ctx, s, owner); err != nil {
		return 0, fmt.Errorf("%s of %s: %w", cause.name, owner.Name, err)
	}
	login, err := s.loginAfter(ctx, before)
	if err != nil {
		return 0, err
	}
	if _, err := s.c.WaitStatus(ctx, "another node owns it", cluster.OwnedBy(takeoverHost, owner.Name)); err != nil {
		return 0, err
	}
	if err := cause.heal(ctx, s, owner); err != nil {
		return 0, fmt.Errorf("bring back %s: %w", owner.Name, err)
	}
	return login.Sub(at), nil
}

// ready waits until all nodes are in, nothing moves, and the leader is where it has to
// be, which it brings about by moving the host.
func (s *takeoverStage) ready(ctx context.Context, leads *bool) (*cluster.Node, error) {
	for {
		st, err := s.settled(ctx)
		if err != nil {
			return nil, err
		}
		owner := cluster.Owner(st, takeoverHost)
		if leads == nil || (owner == st.Cluster.Leader) == *leads {
			return s.c.Node(owner), nil
		}
		to := st.Cluster.Leader
		for _, n := range s.c.Nodes {
			if !*leads && n.Name != st.Cluster.Leader {
				to = n.Name
			}
		}
		if _, err := s.c.Move(ctx, takeoverHost, to); err != nil {
			return nil, fmt.Errorf("move to %s: %w", to, err)
		}
		if err := s.unpin(ctx); err != nil {
			return nil, err
		}
	}
}

// settled waits until one owner and one leader have been the same for a while and all
// nodes are in. What earlier trials left, such as a quarantine, is undone.
func (s *takeoverStage) settled(ctx context.Context) (*api.Status, error) {
	const steady = time.Second
	var since time.Time
	var last string
	return s.c.WaitStatus(ctx, "the cluster is at rest", func(st *api.Status) bool {
		now := fmt.Sprint(st.Cluster.Leader, cluster.Owner(st, takeoverHost))
		for _, n := range st.Nodes {
			now += n.Incarnation
			switch n.State {
			case "alive":
			case "quarantined", "draining":
				_ = s.order(ctx, s.c.Node(n.Name), api.NodeResume) // seen at the next look
				since = time.Time{}
				return false
			default:
				since = time.Time{}
				return false
			}
		}
		if now != last || since.IsZero() || !cluster.Running(takeoverHost)(st) {
			last, since = now, time.Now()
		}
		return time.Since(since) >= steady
	})
}

// order gives an order about the node, to another one: it may be the order to leave.
func (s *takeoverStage) order(ctx context.Context, about *cluster.Node, order string) error {
	return s.through(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.SetNode(ctx, about.Name, order)
		return err
	})
}

// unpin lets the host move by itself again.
func (s *takeoverStage) unpin(ctx context.Context) error {
	return s.through(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.SetHost(ctx, takeoverHost, api.HostResume)
		return err
	})
}

// through does something by the first node that takes it.
func (s *takeoverStage) through(ctx context.Context, do func(context.Context, *api.Client) error) (err error) {
	for _, n := range s.c.Nodes {
		var client *api.Client
		if client, err = n.Client(); err != nil {
			continue
		}
		err = do(ctx, client)
		client.Close()
		if err == nil {
			return nil
		}
	}
	return err
}
