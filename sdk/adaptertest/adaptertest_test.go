package adaptertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// store is a source and a destination in memory, by name and version.
type store struct {
	mu      sync.Mutex
	down    bool
	version int
	items   map[string]stored
}

type stored struct {
	version int
	content []byte
}

var errDown = sdk.Disconnected(errors.New("the store is down"))

// stores are found by the address property, as a real server would be.
var stores sync.Map

type properties struct {
	Address string `json:"address" jsonschema:"required" jsonschema_description:"Name of the store."`
	Keep    bool   `json:"keep,omitempty" jsonschema:"default=false" jsonschema_description:"Leave delivered items."`
	Broken  string `json:"broken,omitempty" jsonschema_description:"What to do wrong."`
	Batch   bool   `json:"batch,omitempty" jsonschema:"default=false" jsonschema_description:"Delete at the session's end only."`
}

func (p properties) store() (*store, error) {
	s, ok := stores.Load(p.Address)
	if !ok {
		return nil, &sdk.PropertyError{Property: "address", Problem: "no such store"}
	}
	return s.(*store), nil
}

var memory = sdk.Adapter{
	Name: "memory", Version: "1.0.0", Summary: "Keeps items in memory, for tests.",
	Receive: sdk.Polled(func(_ context.Context, p properties, _ sdk.Env) (sdk.PolledSource, error) {
		s, err := p.store()
		if err != nil {
			return nil, err
		}
		src := &source{s: s, keep: p.Keep, broken: p.Broken, born: time.Now().UnixNano()}
		if p.Broken == "leak" {
			go func() { select {} }()
		}
		if p.Batch {
			return &batchSource{source: src}, nil
		}
		return src, nil
	}, sdk.Exclusive()),
	Send: sdk.Sends(func(_ context.Context, p properties, _ sdk.Env) (sdk.Sink, error) {
		s, err := p.store()
		return &sink{s: s, broken: p.Broken}, err
	}, sdk.Probes()),
}

type source struct {
	s      *store
	keep   bool
	broken string // what it does wrong, see TestKitFindsBrokenAdapters
	born   int64
}

func key(name string, it stored) string { return fmt.Sprintf("%s#%d", name, it.version) }

func (src *source) key(name string, it stored) string {
	if src.broken == "unstable keys" {
		return fmt.Sprintf("%s#%d", key(name, it), src.born)
	}
	return key(name, it)
}

func (src *source) List(context.Context) ([]sdk.Item, error) {
	src.s.mu.Lock()
	defer src.s.mu.Unlock()
	if src.s.down {
		return nil, errDown
	}
	var out []sdk.Item
	for name, it := range src.s.items {
		out = append(out, sdk.Item{
			Key: src.key(name, it), Size: int64(len(it.content)), Kept: src.keep, Handle: name,
			Context: map[string]string{"custom.name": name},
		})
	}
	return out, nil
}

func (src *source) look(it sdk.Item) (stored, error) {
	found, ok := src.s.items[it.Handle.(string)]
	switch {
	case src.s.down:
		return found, errDown
	case src.broken == "blind settle":
	case !ok || src.key(it.Handle.(string), found) != it.Key:
		return found, sdk.Gone(errors.New("not there"))
	}
	return found, nil
}

func (src *source) Open(_ context.Context, it sdk.Item) (*sdk.Content, error) {
	src.s.mu.Lock()
	defer src.s.mu.Unlock()
	found, err := src.look(it)
	if err != nil {
		return nil, err
	}
	content := found.content
	if src.broken == "truncated" && len(content) > 0 {
		content = content[:len(content)-1]
	}
	return sdk.Body(io.NopCloser(bytes.NewReader(content))), nil
}

func (src *source) Settle(_ context.Context, it sdk.Item) error {
	src.s.mu.Lock()
	defer src.s.mu.Unlock()
	_, err := src.look(it)
	if err == nil && src.broken != "no settle" {
		delete(src.s.items, it.Handle.(string))
	}
	return err
}

func (src *source) Close() error { return nil }

// batchSource deletes at Flush.
type batchSource struct {
	*source
	mu     sync.Mutex
	marked []sdk.Item
}

func (b *batchSource) Settle(_ context.Context, it sdk.Item) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marked = append(b.marked, it)
	return nil
}

func (b *batchSource) Flush(ctx context.Context) error {
	for _, it := range b.marked {
		if err := b.source.Settle(ctx, it); err != nil && !sdk.IsGone(err) {
			b.marked = nil
			return err
		}
	}
	b.marked = nil
	return nil
}

type sink struct {
	s      *store
	broken string
}

func (k *sink) Send(_ context.Context, m *sdk.Message) error {
	r, err := m.Body().Open()
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	name := m.ID
	switch {
	case k.s.down && k.broken == "plain error":
		return errors.New("the store is down")
	case k.s.down:
		return errDown
	case k.broken == "doubles":
		name = fmt.Sprintf("%s-%d", m.ID, len(k.s.items))
	case k.broken == "truncated" && len(content) > 0:
		content = content[:len(content)-1]
	}
	k.s.items[name] = stored{content: content}
	return nil
}

func (k *sink) Probe(_ context.Context, m *sdk.Message) (sdk.Arrival, error) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if k.s.down {
		return sdk.Unknown, errDown
	}
	if _, ok := k.s.items[m.ID]; ok || k.broken == "always arrived" {
		return sdk.Arrived, nil
	}
	return sdk.Absent, nil
}

func (k *sink) Close() error { return nil }

func newStore(t testing.TB) *store {
	s := &store{items: map[string]stored{}}
	stores.Store(t.Name(), s)
	t.Cleanup(func() { stores.Delete(t.Name()) })
	return s
}

func (s *store) put(_ testing.TB, name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.items[name] = stored{version: s.version, content: content}
}

func (s *store) set(down bool) func(testing.TB) {
	return func(testing.TB) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.down = down
	}
}

func sourceFixture(more map[string]any) func(testing.TB) adaptertest.SourceFixture {
	return func(t testing.TB) adaptertest.SourceFixture {
		s := newStore(t)
		p := map[string]any{"address": t.Name()}
		maps.Copy(p, more)
		return adaptertest.SourceFixture{
			Properties: p, Put: s.put, Replace: s.put, Down: s.set(true), Up: s.set(false),
			Remaining: func(testing.TB) []string {
				s.mu.Lock()
				defer s.mu.Unlock()
				return slices.Collect(maps.Keys(s.items))
			},
		}
	}
}

func TestPolledSource(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memory, New: sourceFixture(nil), NameProperty: "custom.name",
	})
}

func TestSourceThatKeepsItems(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memory, New: sourceFixture(map[string]any{"keep": true}), Kept: true,
	})
}

func TestBatcher(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memory, New: sourceFixture(map[string]any{"batch": true}),
	})
}

func TestSink(t *testing.T) { adaptertest.Sink(t, sinkCase("")) }

func sinkCase(broken string) adaptertest.SinkCase {
	return adaptertest.SinkCase{
		Adapter: memory, Deduplicates: true, Probes: true,
		New: func(t testing.TB) adaptertest.SinkFixture {
			s := newStore(t)
			return adaptertest.SinkFixture{
				Properties: map[string]any{"address": t.Name(), "broken": broken},
				Down:       s.set(true), Up: s.set(false),
				Received: func(testing.TB) []adaptertest.Received {
					s.mu.Lock()
					defer s.mu.Unlock()
					var out []adaptertest.Received
					for name, it := range s.items {
						out = append(out, adaptertest.Received{Name: name, Content: it.content})
					}
					return out
				},
			}
		},
	}
}
