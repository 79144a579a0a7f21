package sdk

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// readFailures says what was answered to takes that failed, as key=KIND.
func (r *runtimeSide) readFailures() string {
	var out []string
	for _, f := range all(r, (*adapterpb.FromAdapter).GetReadFailed) {
		out = append(out, f.GetKey()+"="+f.GetError().GetKind().String())
	}
	return strings.Join(out, " ")
}

func TestTakeOfUnknownItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing("a").adapter(), 1, "in")
		r.take("early")
		r.lease(time.Hour)
		r.take("missing")
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{Location: "nowhere", Key: "x"}}})
		synctest.Wait()
		if got := r.readFailures(); got != "early=DISCONNECTED missing=GONE x=DISCONNECTED" {
			t.Errorf("answers %q", got)
		}
		r.end()
	})
}

// closer is content whose Close gives err, once.
type closer struct {
	io.Reader
	err    error
	closed int
}

func (c *closer) Close() error { c.closed++; return c.err }

func TestReadingThatIsNotWholeFails(t *testing.T) {
	big := func() io.Reader { return bytes.NewReader(make([]byte, 2<<20)) }
	for _, c := range []struct {
		name    string
		content *closer
		open    error
		want    string
	}{
		{"open fails", nil, errTest, "RETRYABLE"},
		{"gone", nil, Gone(errTest), "GONE"},
		{"permanent", nil, Permanent(errTest), "PERMANENT"},
		{"reader breaks", &closer{Reader: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errTest))}, nil, "RETRYABLE"},
		{"reader breaks in the spool", &closer{Reader: io.MultiReader(bytes.NewReader(make([]byte, 5000)), iotest.ErrReader(errTest))}, nil, "RETRYABLE"},
		{"close says truncated", &closer{Reader: strings.NewReader("all"), err: errTest}, nil, "RETRYABLE"},
		{"more than max_bytes", &closer{Reader: big()}, nil, "RETRYABLE"},
		{"panic", &closer{Reader: panicReader{}}, nil, "RETRYABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := listing("a")
				f.open = func(context.Context, Item) (*Content, error) {
					if c.content == nil {
						return nil, c.open
					}
					return Body(c.content), nil
				}
				r := newSide(t, f.adapter(), 1, "in")
				r.lease(time.Hour)
				dir := t.TempDir()
				r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
					Location: "in", Key: "a", SpoolDir: dir, InlineMax: 1024, MaxBytes: 1 << 20}}})
				synctest.Wait()
				if got := r.readFailures(); got != "a="+c.want {
					t.Errorf("answer %q, want a=%s", got, c.want)
				}
				if c.content != nil && c.content.closed != 1 {
					t.Errorf("closed %d times, want once", c.content.closed)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
					t.Errorf("left in the spool: %v", left)
				}
				r.end()
			})
		})
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("oh no") }

func TestPartsShareTheInlineLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		f.open = func(context.Context, Item) (*Content, error) {
			return &Content{
				Context: map[string]string{"k\xff": "v\xfe"},
				Parts: func(yield func(Part, error) bool) {
					for _, size := range []int{600, 600, 424, 1} {
						if !yield(Part{Name: "p\xff", Reader: bytes.NewReader(make([]byte, size))}, nil) {
							return
						}
					}
				},
			}, nil
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.take("a")
		c := all(r, (*adapterpb.FromAdapter).GetContent)[0]
		inline := 0
		var kinds []string
		for _, p := range c.GetParts() {
			if path := p.GetSpooled(); path != "" {
				kinds = append(kinds, filepath.Base(path))
				if info, err := os.Stat(path); err != nil || info.Size() != p.GetSize() {
					t.Errorf("%s: %v, %v", path, info, err)
				}
				continue
			}
			kinds = append(kinds, "inline")
			inline += len(p.GetInline())
		}
		if got := strings.Join(kinds, " "); got != "inline part-1 inline part-3" || inline > 1024 {
			t.Errorf("parts %s with %d bytes inline; want 600 and 424 of 1024 inline", got, inline)
		}
		if got := c.GetContext()["k%FF"]; got != "v%FE" {
			t.Errorf("context %v, want valid UTF-8", c.GetContext())
		}
		r.end()
	})
}

func TestReadingWithoutProgressIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		f.open = func(ctx context.Context, _ Item) (*Content, error) {
			return Body(io.NopCloser(readerFunc(func([]byte) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}))), nil
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.take("a")
		time.Sleep(stallLimit)
		synctest.Wait()
		failed := all(r, (*adapterpb.FromAdapter).GetReadFailed)
		if len(failed) != 1 || !strings.Contains(failed[0].GetError().GetText(), "no progress") {
			t.Errorf("answers %v, want one that says that there was no progress", failed)
		}
		r.end()
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestReadingsKeepToMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a", "b", "c", "d", "e")
		var reading gauge
		release := make(chan struct{})
		f.open = func(_ context.Context, it Item) (*Content, error) {
			reading.enter()
			<-release
			reading.leave()
			return Body(io.NopCloser(strings.NewReader(it.Key))), nil
		}
		r := newSide(t, f.adapter(), 2, "in")
		r.lease(time.Hour)
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			r.take(key)
			r.take(key) // the runtime may repeat itself: one answer each
		}
		for range 5 {
			release <- struct{}{}
			synctest.Wait()
		}
		if n := len(all(r, (*adapterpb.FromAdapter).GetContent)); n != 5 || reading.most != 2 {
			t.Errorf("%d contents with at most %d at once, want 5 and 2", n, reading.most)
		}
		r.end()
	})
}

func TestDisconnectedReadingBacksOffTheLocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		f.open = func(context.Context, Item) (*Content, error) { return nil, Disconnected(errTest) }
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.take("a")
		if got := r.states(); got != "POLLING IDLE BACKING_OFF" {
			t.Errorf("states %s", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := r.states(); got != "POLLING IDLE BACKING_OFF IDLE" {
			t.Errorf("states after the source was listed again: %s", got)
		}
		r.end()
	})
}

func TestSettleIsTriedUntilItIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a", "b")
		tries := map[string]int{}
		f.settle = func(_ context.Context, it Item) error {
			tries[it.Key]++
			switch {
			case it.Key == "b":
				return Gone(errTest)
			case tries["a"] < 4:
				return errTest
			}
			return nil
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.settle("a", "b", "missing")
		if got := r.states(); !strings.HasSuffix(got, "BACKING_OFF") {
			t.Errorf("states %s, want it to back off", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := strings.Fields(r.settledText())
		if len(got) != 3 || tries["a"] != 4 || tries["b"] != 1 {
			t.Errorf("settled %v after %v tries", got, tries)
		}
		for _, want := range []string{"a", "b=GONE", "missing=GONE"} {
			if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+want+" ") {
				t.Errorf("settled %v, want %s among them", got, want)
			}
		}
		if got := r.states(); !strings.HasSuffix(got, "IDLE") {
			t.Errorf("states %s, want it to be idle again", got)
		}
		r.end()
	})
}

func TestDrainFinishesWhatIsUnderWayAndGivesUpRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("reading", "failing", "queued", "later")
		release := make(chan struct{})
		f.open = func(_ context.Context, it Item) (*Content, error) {
			<-release
			return Body(io.NopCloser(strings.NewReader(it.Key))), nil
		}
		f.settle = func(_ context.Context, it Item) error {
			if it.Key == "failing" {
				return errTest
			}
			return nil
		}
		r := newSide(t, f.adapter(), 2, "in")
		r.lease(time.Hour)
		r.settle("failing")
		r.take("reading")
		r.take("later") // both slots are used
		r.take("queued")
		r.drain()
		r.drain()
		drained := func() int { return len(all(r, (*adapterpb.FromAdapter).GetDrained)) }
		if drained() != 0 {
			t.Error("drained with two readings under way")
		}
		if got := r.settledText(); got != "failing=RETRYABLE" {
			t.Errorf("settled %q, want failing to be given up", got)
		}
		if got := r.readFailures(); got != "queued=DISCONNECTED" {
			t.Errorf("refused %q, want the queued reading", got)
		}
		close(release)
		synctest.Wait()
		if n := len(all(r, (*adapterpb.FromAdapter).GetContent)); n != 2 || drained() != 1 {
			t.Errorf("%d contents and %d Drained, want 2 and 1", n, drained())
		}
		r.settle("reading")
		if got := r.settledText(); got != "failing=RETRYABLE reading" {
			t.Errorf("settled %q, want reading to be settled after the drain, too", got)
		}
		r.end()
	})
}

// An adapter that ignores its context must not keep the process alive.
func TestEndIsBoundedWhateverTheAdapterDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		release := make(chan struct{})
		f.settle = func(context.Context, Item) error { <-release; return nil }
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.settle("a")
		started := time.Now()
		r.end()
		if took := time.Since(started); took != cleanupTime {
			t.Errorf("the end took %s, want %s", took, cleanupTime)
		}
		if f.closed != 0 {
			t.Error("closed while a method was running")
		}
		close(release)
	})
}
