package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// world is everything around an exchange: a ledger (the real state machine), a
// source, and a destination that remembers every arrival. It outlives owners, and
// can cut one off at any step.
type world struct {
	t *testing.T

	mu       sync.Mutex
	machine  *ledger.Machine
	index    uint64
	epoch    uint64
	items    map[string]string   // at the source, by key
	arrived  map[string][]string // message IDs in order of arrival, by port
	content  map[string]string   // by message ID
	sends    map[string]int      // attempts, by port
	probes   int
	fail     func(port string, m *Message) error // before the arrival
	lose     func(port string, m *Message) error // after the arrival
	probe    func(port string, m *Message) adapterpb.Arrival
	readFail func(key string) *adapterpb.Error
	kept     bool
	settles  int
	steps    int // effects and commits so far
	cutAt    int // the owner is cut off at this step; 0: never
	cut      func()
	batches  int
	latency  time.Duration // of a commit
	// location changes what a location is like; told is what its handlers were told of
	// pausing, polling and recalling; happened what was told of messages.
	location func(*Location)
	told     []string
	happened []Happening
	noRecall bool // the adapter cannot bring anything back
}

func newWorld(t *testing.T, items ...string) *world {
	w := &world{
		t: t, machine: ledger.NewMachine(), items: map[string]string{}, arrived: map[string][]string{},
		content: map[string]string{}, sends: map[string]int{},
	}
	for _, name := range items {
		w.items[name] = "content of " + name
	}
	w.apply(&pb.Command{Kind: &pb.Command_Deploy{Deploy: &pb.Deploy{Version: 1, Groups: []string{"g"}}}})
	return w
}

func (w *world) apply(c *pb.Command) error {
	w.index++
	return w.machine.Apply(w.index, c)
}

// step counts one effect; at cutAt the owner is gone before it takes place.
func (w *world) step() error {
	w.steps++
	if w.cutAt > 0 && w.steps == w.cutAt {
		w.cut()
		return context.Canceled
	}
	return nil
}

func (w *world) propose(ctx context.Context, c *pb.Command) error {
	time.Sleep(w.latency)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := w.step(); err != nil {
		return err
	}
	w.batches++
	return w.apply(proto.CloneOf(c))
}

// owner gives the group to a new incarnation and starts its exchange.
func (w *world) owner(ports map[string]PortPolicy) (*Exchange, *source) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	id := fmt.Sprintf("incarnation-%d", w.epoch+1)
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	must(w.apply(&pb.Command{Kind: &pb.Command_Register{Register: &pb.Register{Session: &pb.Session{Incarnation: id, Node: id}}}}))
	place := &pb.Placement{Group: "g", Node: id, Incarnation: id}
	if w.epoch == 0 {
		must(w.apply(&pb.Command{Kind: &pb.Command_Assign{Assign: &pb.Assign{Placements: []*pb.Placement{place}}}}))
	} else {
		old := fmt.Sprintf("incarnation-%d", w.epoch)
		must(w.apply(&pb.Command{Kind: &pb.Command_Expire{Expire: &pb.Expire{Incarnation: old, Placements: []*pb.Placement{place}}}}))
	}
	w.epoch++
	fates := map[string]map[string]*pb.Fate{"in": {}}
	for key, f := range w.machine.State().GetLocations()["in"].GetFates() {
		fates["in"][key] = proto.CloneOf(f)
	}
	spool, err := OpenSpool(w.t.TempDir(), 1<<30)
	must(err)
	var to []string
	for name := range ports {
		to = append(to, name)
	}
	slices.Sort(to)
	location := Location{Name: "in", Ports: to, MaxInFlight: 4}
	if w.location != nil {
		w.location(&location)
	}
	e := New(Config{
		Tenure:    Tenure{"g", id, w.epoch},
		Locations: []Location{location},
		Tell: func(h Happening) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.happened = append(w.happened, h)
		},
		Ports: ports, Fates: fates, Propose: w.propose, Delivery: w, Spool: spool,
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Fate: func(location, key string) *pb.Fate {
			w.mu.Lock()
			defer w.mu.Unlock()
			if f := w.machine.State().GetLocations()[location].GetFates()[key]; f != nil {
				return proto.CloneOf(f)
			}
			return nil
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	s := &source{w: w, e: e, done: make(chan struct{})}
	w.cut = func() { e.cancel() }
	e.Attach(s, []string{"in"})
	return e, s
}

func (w *world) Deliver(ctx context.Context, _ Tenure, port string, m *Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.sends[port]++
	if err := w.step(); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	if w.fail != nil {
		if err := w.fail(port, m); err != nil {
			return err
		}
	}
	w.arrived[port] = append(w.arrived[port], m.GetId())
	w.content[m.GetId()] = string(m.GetParts()[0].GetInline())
	if w.lose != nil {
		if err := w.lose(port, m); err != nil {
			return err
		}
	}
	if err := w.step(); err != nil { // the answer is lost
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return nil
}

func (w *world) Probe(ctx context.Context, _ Tenure, port string, m *Message) (adapterpb.Arrival, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	if err := w.step(); err != nil {
		return 0, err
	}
	if w.probe != nil {
		return w.probe(port, m), nil
	}
	if slices.Contains(w.arrived[port], m.GetId()) {
		return adapterpb.Arrival_ARRIVAL_ARRIVED, nil
	}
	return adapterpb.Arrival_ARRIVAL_ABSENT, nil
}

// source plays the handler of the location.
type source struct {
	w    *world
	e    *Exchange
	once sync.Once
	done chan struct{}
}

func (s *source) Done() <-chan struct{} { return s.done }

func (s *source) end() { s.once.Do(func() { close(s.done) }) }

func (s *source) Send(_ context.Context, m *adapterpb.ToAdapter) error {
	var answer *adapterpb.FromAdapter
	s.w.mu.Lock()
	switch k := m.GetKind().(type) {
	case *adapterpb.ToAdapter_Take:
		answer = s.take(k.Take.GetKey())
	case *adapterpb.ToAdapter_Settle:
		answer = s.settle(k.Settle.GetKey(), k.Settle.GetVerdict())
	case *adapterpb.ToAdapter_Recall:
		s.w.told = append(s.w.told, "recall "+k.Recall.GetKey())
		answer = s.recall(k.Recall.GetKey())
	case *adapterpb.ToAdapter_Pause:
		s.w.told = append(s.w.told, fmt.Sprintf("pause %v", k.Pause.GetPaused()))
	case *adapterpb.ToAdapter_Poll:
		s.w.told = append(s.w.told, "poll")
	}
	s.w.mu.Unlock()
	if answer != nil {
		go s.e.Handle(s, answer)
	}
	return nil
}

func (s *source) take(key string) *adapterpb.FromAdapter {
	failed := func(e *adapterpb.Error) *adapterpb.FromAdapter {
		return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_ReadFailed{ReadFailed: &adapterpb.ReadFailed{Location: "in", Key: key, Error: e}}}
	}
	if s.w.readFail != nil {
		if e := s.w.readFail(key); e != nil {
			return failed(e)
		}
	}
	content, ok := s.w.items[key]
	if !ok {
		return failed(&adapterpb.Error{Kind: adapterpb.Error_GONE, Text: "no such item"})
	}
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Content{Content: &adapterpb.Content{
		Location: "in", Key: key,
		Parts: []*adapterpb.Part{{Size: int64(len(content)), Content: &adapterpb.Part_Inline{Inline: []byte(content)}}},
	}}}
}

// recall offers an item again, as a broker's handler does with a dead letter.
func (s *source) recall(key string) *adapterpb.FromAdapter {
	failed := &adapterpb.Error{Kind: adapterpb.Error_GONE, Text: "no such dead letter"}
	if s.w.noRecall {
		failed = &adapterpb.Error{Kind: adapterpb.Error_PERMANENT, Text: "this adapter cannot"}
	}
	if _, ok := s.w.items[key]; !ok || s.w.noRecall {
		return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Recalled{Recalled: &adapterpb.Recalled{Location: "in", Key: key, Error: failed}}}
	}
	return offerOf(key, 3)
}

func offerOf(key string, size int64) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Offer{Offer: &adapterpb.Offer{
		Location: "in", Item: &adapterpb.Item{Key: key, Size: size},
	}}}
}

func (s *source) settle(key string, v adapterpb.Verdict) *adapterpb.FromAdapter {
	s.w.settles++
	if v != adapterpb.Verdict_VERDICT_DELIVERED {
		return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Settled{Settled: &adapterpb.Settled{Location: "in", Key: key}}}
	}
	if s.w.step() != nil {
		return nil
	}
	delete(s.w.items, key)
	if s.w.step() != nil {
		return nil // deleted, but nobody hears of it
	}
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Settled{Settled: &adapterpb.Settled{Location: "in", Key: key}}}
}

// list offers what is at the source.
func (s *source) list() {
	s.w.mu.Lock()
	l := &adapterpb.Listing{Location: "in", Final: true}
	for key, content := range s.w.items {
		l.Items = append(l.Items, &adapterpb.Item{
			Key: key, Size: int64(len(content)), Kept: s.w.kept, Context: map[string]string{"lane": key[:1]},
		})
	}
	s.w.mu.Unlock()
	slices.SortFunc(l.Items, func(a, b *adapterpb.Item) int {
		return cmp.Or(len(a.Key)-len(b.Key), strings.Compare(a.Key, b.Key))
	})
	s.e.Handle(s, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Listing{Listing: l}})
}

// fate is what the ledger says of the item.
func (w *world) fate(key string) pb.Fate_State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine.State().GetLocations()["in"].GetFates()[key].GetState()
}

func (w *world) reason(key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine.State().GetLocations()["in"].GetFates()[key].GetReason()
}

func (w *world) arrivals(port string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.arrived[port])
}

func (w *world) left() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.items)
}

// order carries out an operator's order and lets the exchange know of it.
func (w *world) order(e *Exchange, order pb.OrderItems_Order, port string, keys ...string) {
	w.t.Helper()
	w.mu.Lock()
	o := &pb.OrderItems{Order: order, Port: port}
	for _, key := range keys {
		id := w.machine.State().GetLocations()["in"].GetFates()[key].GetMessageId()
		o.Items = append(o.Items, &pb.ItemRef{Location: "in", Key: key, MessageId: id})
	}
	err := w.apply(&pb.Command{Kind: &pb.Command_OrderItems{OrderItems: o}})
	w.mu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	e.Refresh()
}

// kinds are what was told of the messages, in order.
func (w *world) kinds() (kinds []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.happened {
		kinds = append(kinds, h.Kind)
	}
	return kinds
}

// contents are what arrived at a port, in order.
func (w *world) contents(port string) (contents []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range w.arrived[port] {
		contents = append(contents, strings.TrimPrefix(w.content[id], "content of "))
	}
	return contents
}

// calm returns when nothing happens any more, notes that nobody waits for included.
func calm() {
	time.Sleep(2 * linger)
	synctest.Wait()
}

var errBroken = errors.New("connection broken in mid transfer")

func retrying(attempts int) PortPolicy {
	return PortPolicy{Attempts: attempts, Interval: time.Second, Backoff: 1}
}
