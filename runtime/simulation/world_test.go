package simulation

import (
	"fmt"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// ttl is the lease of a simulated cluster.
const ttl = time.Second

// timing is raft's share: an election takes 300 ms in the median.
var timing = ledger.Timing{
	Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond,
	LeaderLease: 75 * time.Millisecond, Commit: 10 * time.Millisecond,
}

// plan is what a cluster is made of.
type plan struct {
	seed          uint64
	nodes, voters int
	groups        []string
	// preferred owners of all groups, the best first.
	preferred []string
	// idle: owners have nothing to do, they only hold what they own.
	idle     bool
	sabotage sabotage
}

// world is a simulated cluster. It lives in one synctest bubble.
type world struct {
	plan
	began time.Time
	nodes []*node
	// tasks are all goroutines of the world that end by themselves, or with it.
	tasks sync.WaitGroup

	mu      sync.Mutex
	draws   map[uint64]uint64 // numbers drawn, by stream
	net     network
	check   *checker
	items   *items
	trap    *trap
	sent    []*pb.Command // the latest that processes have proposed
	ids     int           // of messages
	history history
}

func newWorld(p plan) *world {
	w := &world{plan: p, began: time.Now(), draws: map[uint64]uint64{}, net: newNetwork(p.nodes)}
	w.check = newChecker(w)
	w.items = newItems(w)
	for i := range p.nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	return w
}

// boot starts all nodes, makes the cluster and deploys the groups.
func (w *world) boot() {
	var servers []ledger.Server
	for _, n := range w.nodes[:w.voters] {
		servers = append(servers, ledger.Server{Node: n.name, Address: n.name, Voter: true})
	}
	for _, n := range w.nodes {
		n.start()
	}
	for _, n := range w.nodes[:w.voters] {
		if err := n.process().ledger.Bootstrap(servers); err != nil {
			w.fail("bootstrap: %v", err)
		}
	}
	locations := map[string]string{}
	for _, g := range w.groups {
		locations[location(g)] = g
	}
	deploy := &pb.Command{Kind: &pb.Command_Deploy{Deploy: &pb.Deploy{Version: 1, Groups: w.groups, Locations: locations}}}
	w.until(5*time.Second, "the first deployment", func() bool { return w.order(w.nodes[0], deploy) == nil })
}

// close ends everything.
func (w *world) close() {
	for _, n := range w.nodes {
		n.crash(everything)
	}
	w.tasks.Wait()
}

// until waits for a condition and reports whether it came true in time; if not,
// that is a violation.
func (w *world) until(limit time.Duration, what string, met func() bool) bool {
	for end := time.Now().Add(limit); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.fail("not within %v: %s", limit, what)
			return false
		}
	}
	return true
}

// now is the time since the world began: events carry it.
func (w *world) now() time.Duration { return time.Since(w.began) }

// Streams of random numbers: one for everything that draws by itself, so that what
// happens at one place does not shift the numbers of another.
const (
	streamDisk = iota + 1
	streamClock
	streamHandler
	streamSource
	streamThaw
	streamRaft // with its answers one above
	_
	streamBeat
	_
	streamCall
	_
)

// draw returns the next number of a stream. It depends on the seed, the stream and
// how many were drawn, not on the order in which goroutines run.
func (w *world) draw(stream, a, b int) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drawLocked(stream, a, b)
}

func (w *world) drawLocked(stream, a, b int) uint64 {
	key := uint64(stream)<<48 | uint64(a)<<24 | uint64(b)
	w.draws[key]++
	return mix(mix(w.seed^mix(key)) + w.draws[key])
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// span is a duration between least and most by a drawn number, exact to the
// nanosecond so that two events are seldom at the same instant.
func span(x uint64, least, most time.Duration) time.Duration {
	return least + time.Duration(x%uint64(most-least))
}

// keptCommands is how many commands may come again later.
const keptCommands = 40

func (w *world) remember(c *pb.Command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == keptCommands {
		w.sent = w.sent[1:]
	}
	w.sent = append(w.sent, c)
}

// report is the outcome of a schedule.
type report struct {
	violations []string
	trace      uint64 // sum over all events
	events     []string
	healed     time.Duration // from the end of all faults until every group was at work
	acts       int
}

func (w *world) report() report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return report{
		violations: w.history.violations, trace: w.history.sum, events: w.history.last(),
		healed: w.check.healed, acts: w.check.acts,
	}
}

// history is what has happened.
type history struct {
	events     []event // a ring
	count      int
	sum        uint64
	violations []string
}

type event struct {
	at   time.Duration
	text string
}

const keptEvents = 200

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	h := &w.history
	e := event{w.now(), fmt.Sprintf(format, args...)}
	if len(h.events) < keptEvents {
		h.events = append(h.events, e)
	} else {
		h.events[h.count%keptEvents] = e
	}
	h.count++
	sum := mix(uint64(e.at))
	for i := range len(e.text) {
		sum = (sum ^ uint64(e.text[i])) * 0x100000001b3
	}
	h.sum += mix(sum) // whatever the order within one instant
}

func (h *history) last() (lines []string) {
	for i := h.count - len(h.events); i < h.count; i++ {
		e := h.events[i%keptEvents]
		lines = append(lines, fmt.Sprintf("%11.6fs %s", e.at.Seconds(), e.text))
	}
	return lines
}

// fail records that a rule was broken.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(format, args...)
}

func (w *world) failLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.noteLocked("VIOLATION %s", text)
	if len(w.history.violations) < 10 {
		w.history.violations = append(w.history.violations, fmt.Sprintf("at %v: %s", w.now(), text))
	}
}
