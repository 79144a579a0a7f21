package sdk

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// fakeRecaller is a pushed source that brings items back.
type fakeRecaller struct {
	*fakePushed
	recall func(ctx context.Context, key string) (Delivery, error)
}

func (f *fakeRecaller) Recall(ctx context.Context, key string) (Delivery, error) {
	return f.recall(ctx, key)
}

func (f *fakeRecaller) adapter() Adapter {
	return Adapter{Receive: Pushed(func(context.Context, struct{}, Env) (PushedSource, error) { return f, nil })}
}

// recalling delivers a key at its start, and brings any item back but those that
// are gone. It notes the verdicts on what it brought back.
func recalling(verdicts chan<- string, keys ...string) *fakeRecaller {
	return &fakeRecaller{
		fakePushed: pushing(make(chan delivered, 10), keys...),
		recall: func(_ context.Context, key string) (Delivery, error) {
			if strings.HasPrefix(key, "gone") {
				return Delivery{}, Gone(errTest)
			}
			d := deliveryOf(key)
			d.Settle = func(_ context.Context, v Verdict) error {
				verdicts <- key + " " + []string{"", "delivered", "suspended", "retry"}[v]
				return nil
			}
			return d, nil
		},
	}
}

func TestRecalledItemIsOfferedReadAndSettledWhereItLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verdicts := make(chan string, 10)
		// Its only slot is taken by an item that may wait for the recalled one.
		r := newLocation(t, recalling(verdicts, "waiting").adapter(), &adapterpb.Endpoint{MaxInFlight: 1, Ordered: true})
		r.lease(time.Hour)
		r.recall("a")
		r.recall("a")
		r.recall("waiting")
		r.recall("gone")
		if got := r.recalledText(); got != "a a waiting gone=GONE" && got != "a a waiting" {
			t.Errorf("recalled %q", got)
		}
		if got := r.offered(); got != "waiting a" {
			t.Errorf("offered %q, want each item once", got)
		}
		r.take("a")
		r.settle("a")
		if got := <-verdicts; got != "a delivered" || r.settledText() != "a" {
			t.Errorf("verdict %q, settled %q", got, r.settledText())
		}
		synctest.Wait()
		if got := r.recalledText(); got != "a a waiting gone=GONE" {
			t.Errorf("recalled %q, want the one that is gone to be found out after the first", got)
		}
		r.end()
	})
}

func TestRecallWorksInAPauseWhichWithdrawsOnlyAtItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLocation(t, recalling(make(chan string, 10)).adapter(), &adapterpb.Endpoint{Paused: true})
		r.lease(time.Hour)
		r.recall("a")
		if got := r.offered(); got != "a" {
			t.Errorf("offered %q during the pause, want a", got)
		}
		r.pause(false)
		r.recall("a")
		if got := r.offered(); got != "a" {
			t.Errorf("offered %q, want a once: the pause's end withdraws nothing", got)
		}
		r.pause(true) // the runtime lets go of what it has not begun with
		r.recall("a")
		if got := r.offered(); got != "a a" {
			t.Errorf("offered %q, want a again", got)
		}
		r.end()
	})
}

func TestRecallsThatCannotBeFulfilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := recalling(make(chan string, 10))
		good := f.recall
		f.recall = func(ctx context.Context, key string) (Delivery, error) {
			switch key {
			case "other":
				return good(ctx, "another")
			case "hollow":
				return Delivery{Item: Item{Key: key}}, nil
			case "panics":
				panic("oh no")
			}
			return good(ctx, key)
		}
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{MaxInFlight: 4})
		r.recall("early")
		r.lease(time.Hour)
		r.recall("other")
		r.recall("hollow")
		r.recall("panics")
		r.recall(wireKey(strings.Repeat("x", 2000)))
		odd := "50%\xff"
		r.recall(wireKey(odd))
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Recall{Recall: &adapterpb.Recall{Location: "nowhere", Key: "x"}}})
		r.drain()
		r.recall("late")
		want := "early=DISCONNECTED other=PERMANENT hollow=PERMANENT panics=RETRYABLE " +
			wireKey(strings.Repeat("x", 2000)) + "=PERMANENT " + wireKey(odd) + " x=DISCONNECTED late=DISCONNECTED"
		if got := r.recalledText(); got != want {
			t.Errorf("recalled %q, want %q", got, want)
		}
		r.end()
	})
}

func TestRecallOfOtherSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		polls := counted(f)
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{Paused: true})
		r.lease(time.Hour)
		r.recall("a")
		if n := polls.Load(); n != 1 || r.recalledText() != "a" || r.lastKeys() != "a" {
			t.Errorf("%d polls, recalled %q, listed %q", n, r.recalledText(), r.lastKeys())
		}
		r.end()

		r = newLocation(t, pushing(nil).adapter(), &adapterpb.Endpoint{})
		r.lease(time.Hour)
		r.recall("a")
		if got := r.recalledText(); got != "a=PERMANENT" {
			t.Errorf("recalled %q from a source that is no Recaller", got)
		}
		r.end()
	})
}

func TestOrderedSourceDeliversOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ordered atomic.Bool
		f := pushing(make(chan delivered, 10), "a", "b", "c")
		a := Adapter{Receive: Pushed(func(_ context.Context, _ struct{}, env Env) (PushedSource, error) {
			ordered.Store(env.Ordered)
			return f, nil
		})}
		r := newLocation(t, a, &adapterpb.Endpoint{MaxInFlight: 16, Ordered: true})
		r.lease(time.Hour)
		for i := range 3 {
			keys := strings.Fields(r.offered())
			if len(keys) != i+1 {
				t.Fatalf("offered %q, want %d", keys, i+1)
			}
			r.take(keys[i])
			r.settle(keys[i])
		}
		if !ordered.Load() {
			t.Error("the source was not asked for order")
		}
		r.end()
	})
}

// sized delivers one item that says it has this many bytes, and has the content.
func sized(size int64, parts ...string) *fakePushed {
	return &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
		d := deliveryOf("a")
		d.Item.Size = size
		d.Open = func(context.Context) (*Content, error) {
			if parts == nil {
				return nil, Permanent(errTest)
			}
			return &Content{Parts: func(yield func(Part, error) bool) {
				for _, p := range parts {
					if !yield(Part{Reader: bytes.NewBufferString(p)}, nil) {
						return
					}
				}
			}}, nil
		}
		for ctx.Err() == nil {
			_, _ = deliver(context.WithoutCancel(ctx), d)
		}
		return ctx.Err()
	}}
}

func TestSmallContentGoesWithItsOffer(t *testing.T) {
	for _, c := range []struct {
		name   string
		source *fakePushed
		inline string // "-": none
		taken  string // answer to a Take
	}{
		{"small", sized(7, "content"), "content", "a=DISCONNECTED"},
		{"empty", sized(0, ""), "", "a=DISCONNECTED"},
		{"at the limit", sized(10, "0123456789"), "0123456789", "a=DISCONNECTED"},
		{"two parts", sized(7, "con", "tent"), "con+tent", "a=DISCONNECTED"},
		{"larger", sized(11, "01234567890"), "-", ""},
		{"of unknown size", sized(-1, "content"), "-", ""},
		{"cannot be read", sized(7), "-", "a=PERMANENT"},
		{"more than its size", sized(7, "0123456", "7890"), "-", "a=RETRYABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newLocation(t, c.source.adapter(), &adapterpb.Endpoint{MaxInFlight: 1, OfferInlineMax: 10})
				r.lease(time.Hour)
				o := all(r, (*adapterpb.FromAdapter).GetOffer)[0]
				if got := inlineOf(o.GetContent()); got != c.inline {
					t.Errorf("content of the offer is %q, want %q", got, c.inline)
				}
				r.take("a")
				if got := r.readFailures(); got != c.taken {
					t.Errorf("answer to a take %q, want %q", got, c.taken)
				}
				r.settle("a")
				if got := r.settledText(); got != "a" {
					t.Errorf("settled %q", got)
				}
				r.end()
			})
		})
	}
}

func inlineOf(c *adapterpb.Content) string {
	if c == nil {
		return "-"
	}
	var parts []string
	for _, p := range c.GetParts() {
		parts = append(parts, string(p.GetInline()))
	}
	return strings.Join(parts, "+")
}

func TestItemsOfASourceWhoseSizesAreWrongAreReadWhenTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLocation(t, sized(7, "0123456", "7890").adapter(), &adapterpb.Endpoint{MaxInFlight: 1, OfferInlineMax: 10})
		r.lease(time.Hour)
		r.take("a")
		r.settle("a") // as after RETRY: it comes again
		r.take("a")
		if n := len(all(r, (*adapterpb.FromAdapter).GetContent)); n != 1 {
			t.Errorf("%d contents, want one: it is read when it is taken", n)
		}
		r.end()
	})
}

func TestOfferWithContentIsUnderWayAndAPauseLeavesItAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLocation(t, sized(7, "content").adapter(), &adapterpb.Endpoint{MaxInFlight: 1, OfferInlineMax: 10})
		r.lease(time.Hour)
		r.pause(true)
		r.settle("a")
		if got := r.settledText(); got != "a" || r.offered() != "a" {
			t.Errorf("settled %q, offered %q", got, r.offered())
		}
		r.end()
	})
}

func TestReadingForAnOfferIsBoundedLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
			d := deliveryOf("a")
			d.Item.Size = 5
			d.Open = func(ctx context.Context) (*Content, error) {
				return Body(io.NopCloser(readerFunc(func([]byte) (int, error) {
					<-ctx.Done()
					return 0, ctx.Err()
				}))), nil
			}
			_, err := deliver(ctx, d)
			return err
		}}
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{OfferInlineMax: 10})
		r.lease(time.Hour)
		time.Sleep(stallLimit)
		synctest.Wait()
		if got := r.offered(); got != "a" {
			t.Errorf("offered %q, want a without its content after %s without a byte", got, stallLimit)
		}
		r.take("a")
		failed := all(r, (*adapterpb.FromAdapter).GetReadFailed)
		if len(failed) != 1 || !strings.Contains(failed[0].GetError().GetText(), "no progress") {
			t.Errorf("answers to the take: %v", failed)
		}
		r.end()
	})
}

// The runtime may ask for an item again as soon as it hears that it is settled. While
// the recall before that was still winding up, this was taken for the same wish twice,
// and the item never came.
func TestAHeldItemIsNotBeingBroughtBackAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *runtimeSide
		winding := 0
		source := recalling(make(chan string, 10))
		source.recall = func(_ context.Context, key string) (Delivery, error) {
			d := deliveryOf(key)
			d.Settle = func(context.Context, Verdict) error {
				l := r.s.locations["in"].(*pushed)
				l.mu.Lock()
				defer l.mu.Unlock()
				winding += len(l.recalls)
				return nil
			}
			return d, nil
		}
		r = newLocation(t, source.adapter(), &adapterpb.Endpoint{})
		r.lease(time.Hour)
		for range 3 {
			r.recall("a")
			r.take("a")
			r.settle("a")
		}
		if winding > 0 || r.offered() != "a a a" || r.settledText() != "a a a" {
			t.Errorf("%d recalls were open while their items were settled; offered %q, settled %q", winding, r.offered(), r.settledText())
		}
		r.end()
	})
}
