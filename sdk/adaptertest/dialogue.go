package adaptertest

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Item is what a location listed or offered.
type Item struct {
	Key     string
	Context map[string]string
	Size    int64
	Kept    bool
}

// Content is what a location delivered.
type Content struct {
	// Context is the item's, with what was added when it was read.
	Context map[string]string
	Parts   []Part
}

// Message is what is sent to a port.
type Message struct {
	ID          string
	Context     map[string]string
	Parts       []Part
	Redelivered bool
}

// note takes in one message of the adapter. It is called with mu held.
func (h *Handler) note(m *adapterpb.FromAdapter) {
	switch k := m.GetKind().(type) {
	case *adapterpb.FromAdapter_Ready:
		h.ready = k.Ready
	case *adapterpb.FromAdapter_Drained:
		h.drained = true
	case *adapterpb.FromAdapter_Pong:
		h.pongs[k.Pong.GetNumber()] = true
	case *adapterpb.FromAdapter_EndpointState:
		name := k.EndpointState.GetEndpoint()
		h.states[name] = append(h.states[name], k.EndpointState)
	case *adapterpb.FromAdapter_Listing:
		h.noteListing(k.Listing)
	case *adapterpb.FromAdapter_Offer:
		h.noteOffer(k.Offer)
	case *adapterpb.FromAdapter_Content:
		h.answer("take", k.Content.GetLocation(), k.Content.GetKey(), m)
	case *adapterpb.FromAdapter_ReadFailed:
		h.answer("take", k.ReadFailed.GetLocation(), k.ReadFailed.GetKey(), m)
	case *adapterpb.FromAdapter_Settled:
		s := k.Settled
		if kind := s.GetError().GetKind(); s.GetError() == nil || kind == adapterpb.Error_GONE {
			delete(h.known(h.items, s.GetLocation()), s.GetKey())
		}
		h.answer("settle", s.GetLocation(), s.GetKey(), m)
	case *adapterpb.FromAdapter_Recalled:
		h.answer("recall", k.Recalled.GetLocation(), k.Recalled.GetKey(), m)
	case *adapterpb.FromAdapter_Sent:
		h.answer("send", "", fmt.Sprint(k.Sent.GetCall()), m)
	case *adapterpb.FromAdapter_Probed:
		h.answer("probe", "", fmt.Sprint(k.Probed.GetCall()), m)
	}
}

func (h *Handler) noteOffer(o *adapterpb.Offer) {
	location, key := o.GetLocation(), o.GetItem().GetKey()
	h.known(h.items, location)[key] = o.GetItem()
	h.order[location] = append(h.order[location], key)
	delete(h.contents, [2]string{location, key})
	if o.GetContent() != nil {
		h.contents[[2]string{location, key}] = o.GetContent()
	}
}

// noteListing gathers partial listings; what they have is there, but only a
// complete one says what is not.
func (h *Handler) noteListing(l *adapterpb.Listing) {
	partial := h.known(h.partial, l.GetLocation())
	for _, it := range l.GetItems() {
		partial[it.GetKey()] = it
		if h.known(h.items, l.GetLocation())[it.GetKey()] == nil {
			h.order[l.GetLocation()] = append(h.order[l.GetLocation()], it.GetKey())
		}
		h.known(h.items, l.GetLocation())[it.GetKey()] = it
	}
	if l.GetFinal() {
		h.items[l.GetLocation()] = partial
		delete(h.partial, l.GetLocation())
		h.listings[l.GetLocation()]++
	}
}

func (h *Handler) known(m map[string]map[string]*adapterpb.Item, location string) map[string]*adapterpb.Item {
	if m[location] == nil {
		m[location] = map[string]*adapterpb.Item{}
	}
	return m[location]
}

func (h *Handler) answer(verb, location, key string, m *adapterpb.FromAdapter) {
	id := verb + "\x00" + location + "\x00" + key
	if !h.waiting[id] {
		h.t.Errorf("the adapter answered what was not asked: %s %s %s", verb, location, key)
		return
	}
	h.answers[id] = m
}

// ask sends a message and waits for its answer.
func (h *Handler) ask(verb, location, key string, m *adapterpb.ToAdapter) *adapterpb.FromAdapter {
	h.t.Helper()
	id := verb + "\x00" + location + "\x00" + key
	h.mu.Lock()
	h.waiting[id] = true
	delete(h.answers, id)
	h.mu.Unlock()
	h.tell(m)
	h.wait(fmt.Sprintf("the answer to %s %s %s", verb, location, key), func() bool { return h.answers[id] != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.answers[id]
	delete(h.answers, id)
	delete(h.waiting, id)
	return a
}

// Poll asks a polled location to list, and does not wait for it.
func (h *Handler) Poll(location string) {
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: location}}})
}

// List polls and waits until a listing that began after the call is complete. It
// is for polled locations.
func (h *Handler) List(location string) []Item {
	h.t.Helper()
	h.mu.Lock()
	// One may be under way, so the second from now on is meant.
	seen := h.listings[location]
	h.mu.Unlock()
	for i := 1; i <= 2; i++ {
		h.Poll(location)
		h.wait("a complete listing of "+location, func() bool { return h.listings[location] >= seen+i })
	}
	return h.Items(location)
}

// Items returns what the location has offered and was not settled, by key.
func (h *Handler) Items(location string) []Item {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Item
	for _, key := range slices.Sorted(maps.Keys(h.items[location])) {
		out = append(out, item(h.items[location][key]))
	}
	return out
}

func item(it *adapterpb.Item) Item {
	return Item{Key: it.GetKey(), Context: it.GetContext(), Size: it.GetSize(), Kept: it.GetKept()}
}

// WaitItems waits until the location offers n items, and returns them by key.
func (h *Handler) WaitItems(location string, n int) []Item {
	h.t.Helper()
	h.wait(fmt.Sprintf("%d items of %s", n, location), func() bool { return len(h.items[location]) >= n })
	return h.Items(location)
}

// Pause has a location look for nothing new by itself, or go on. It does not wait.
func (h *Handler) Pause(location string, paused bool) {
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Pause{Pause: &adapterpb.Pause{Location: location, Paused: paused}}})
}

// WaitStopped waits until the location says that it has stopped, as it does when it is
// paused.
func (h *Handler) WaitStopped(location string) {
	h.t.Helper()
	h.wait(location+" to stop", func() bool {
		s := h.states[location]
		return len(s) > 0 && s[len(s)-1].GetState() == adapterpb.EndpointState_STOPPED
	})
}

// Recall asks for an item that was suspended. Without an error the item is offered
// again, or being listed: see [Handler.WaitItem].
func (h *Handler) Recall(location, key string) error {
	h.t.Helper()
	a := h.ask("recall", location, key, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Recall{Recall: &adapterpb.Recall{
		Location: location, Key: key}}})
	return wireErr(a.GetRecalled().GetError())
}

// WaitItem waits until the location offers the item with this key, and returns it.
func (h *Handler) WaitItem(location, key string) Item {
	h.t.Helper()
	h.wait(fmt.Sprintf("item %s of %s", key, location), func() bool { return h.items[location][key] != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	return item(h.items[location][key])
}

// polls reports whether the location is one that is polled. It is known after the
// first complete listing.
func (h *Handler) polls(location string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listings[location] > 0
}

// arrivals returns the keys in the order in which they were listed or offered.
func (h *Handler) arrivals(location string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.order[location])
}

// cameWithOffer reports whether the content came with the item's latest offer.
func (h *Handler) cameWithOffer(location, key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contents[[2]string{location, key}] != nil
}

// Take reads an item, or returns the content that has come with its offer. The error
// has the kind that the adapter gave it.
func (h *Handler) Take(location, key string) (*Content, error) {
	h.t.Helper()
	h.mu.Lock()
	own := maps.Clone(h.items[location][key].GetContext())
	offered := h.contents[[2]string{location, key}]
	h.mu.Unlock()
	if offered != nil {
		return h.content(own, offered), nil
	}
	dir := filepath.Join(h.spool, fmt.Sprint(h.number()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatalf("spool: %v", err)
	}
	defer os.RemoveAll(dir)
	a := h.ask("take", location, key, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
		Location: location, Key: key, SpoolDir: dir, InlineMax: inlineMax, MaxBytes: maxBytes}}})
	if f := a.GetReadFailed(); f != nil {
		if kind := f.GetError().GetKind(); kind == adapterpb.Error_GONE || kind == adapterpb.Error_DISCONNECTED {
			h.change(func() { delete(h.items[location], key) }) // until it is listed or offered again
		}
		return nil, wireErr(f.GetError())
	}
	return h.content(own, a.GetContent()), nil
}

// content puts together what the item said and what was read.
func (h *Handler) content(own map[string]string, read *adapterpb.Content) *Content {
	h.t.Helper()
	c := &Content{Context: own}
	if c.Context == nil {
		c.Context = map[string]string{}
	}
	maps.Copy(c.Context, read.GetContext())
	for _, p := range read.GetParts() {
		c.Parts = append(c.Parts, readPart(h.t, p))
	}
	return c
}

// Settle gives the verdict on an item.
func (h *Handler) Settle(location, key string, v sdk.Verdict) error {
	h.t.Helper()
	a := h.ask("settle", location, key, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{
		Location: location, Key: key, Verdict: adapterpb.Verdict(v)}}})
	return wireErr(a.GetSettled().GetError())
}

// Send sends a message to a port.
func (h *Handler) Send(port string, m Message) error {
	h.t.Helper()
	n := h.number()
	a := h.ask("send", "", fmt.Sprint(n), &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{
		Call: n, Port: port, Message: h.message(m)}}})
	return wireErr(a.GetSent().GetError())
}

// Probe asks a port whether a message has arrived.
func (h *Handler) Probe(port string, m Message) (sdk.Arrival, error) {
	h.t.Helper()
	n := h.number()
	a := h.ask("probe", "", fmt.Sprint(n), &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Probe{Probe: &adapterpb.Probe{
		Call: n, Port: port, Message: h.message(m)}}})
	return sdk.Arrival(a.GetProbed().GetArrival()), wireErr(a.GetProbed().GetError())
}

// WaitBackingOff waits until the endpoint says that it backs off, and returns why.
func (h *Handler) WaitBackingOff(endpoint string) string {
	h.t.Helper()
	var why string
	h.wait(endpoint+" to back off", func() bool {
		s := h.states[endpoint]
		if len(s) == 0 || s[len(s)-1].GetState() != adapterpb.EndpointState_BACKING_OFF {
			return false
		}
		why = s[len(s)-1].GetError().GetText()
		return true
	})
	return why
}

// WaitWorking waits until the endpoint does not back off (any more).
func (h *Handler) WaitWorking(endpoint string) {
	h.t.Helper()
	h.wait(endpoint+" to work", func() bool {
		s := h.states[endpoint]
		return len(s) == 0 || s[len(s)-1].GetState() != adapterpb.EndpointState_BACKING_OFF
	})
}

// wireErr gives an error back its kind.
func wireErr(e *adapterpb.Error) error {
	if e == nil {
		return nil
	}
	err := errors.New(e.GetText())
	switch e.GetKind() {
	case adapterpb.Error_PERMANENT:
		return sdk.Permanent(err)
	case adapterpb.Error_DISCONNECTED:
		return sdk.Disconnected(err)
	case adapterpb.Error_GONE:
		return sdk.Gone(err)
	default:
		return err
	}
}

// testLogger writes the adapter's log into the test's.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
