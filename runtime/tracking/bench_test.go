package tracking

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
)

// ways are the steps of messages on their way, in the order in which a busy node notes
// them: many messages at once, each with a received, routed, sent and settled.
func ways(messages, locations int) []Step {
	const abreast = 64
	steps := make([]Step, 0, 4*messages)
	for first := 0; first < messages; first += abreast {
		ids := make([]string, abreast)
		for i := range ids {
			ids[i] = uuid.Must(uuid.NewV7()).String()
		}
		for _, kind := range []string{Received, Routed, Sent, Settled} {
			for i, id := range ids {
				n := first + i
				st := Step{
					Message: id, Location: fmt.Sprintf("supplier-orders-%d", n%locations), Node: "node-a", Kind: kind,
					Key: fmt.Sprintf("/in/orders/2026/order-%08d.xml|10240|1795435200", n),
				}
				switch kind {
				case Received:
					st.Name, st.Size = fmt.Sprintf("order-%08d.xml", n), 10240
					st.Context = map[string]string{"ftp.name": st.Name, "ftp.size": "10240"}
				case Routed, Sent:
					st.Port = "erp"
				}
				steps = append(steps, st)
			}
		}
	}
	return steps
}

// stocked is a store with a million steps and more, of a hundred locations.
func stocked(b *testing.B) (*world, []Step) {
	b.Helper()
	steps := ways(250_000, 100)
	w := newWorld(b, func(c *Config) { c.Now = time.Now })
	for i := range steps {
		w.Note(steps[i])
		if i%5000 == 0 {
			w.settle()
		}
	}
	w.settle()
	if st := w.Stats(); st.Steps != len(steps) || st.Lost != 0 {
		b.Fatalf("got %+v", st)
	}
	return w, steps
}

// BenchmarkNote is what a step costs the one who notes it, without the writer's work.
func BenchmarkNote(b *testing.B) {
	steps := ways(1<<12, 100)
	w := newWorld(b, func(c *Config) { c.Now = time.Now })
	b.ReportAllocs()
	for i := range b.N {
		if i%5000 == 0 {
			b.StopTimer()
			w.settle()
			b.StartTimer()
		}
		w.Note(steps[i%len(steps)])
	}
	if w.Lost() > 0 {
		b.Errorf("%d of %d steps are lost", w.Lost(), b.N)
	}
}

// BenchmarkNoteAndWrite is the whole work: every step is on its way to the disk when
// the time ends.
func BenchmarkNoteAndWrite(b *testing.B) {
	steps := ways(1<<14, 100)
	w := newWorld(b, func(c *Config) { c.Now = time.Now })
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.Note(steps[i%len(steps)])
		if i%5000 == 0 {
			w.settle()
		}
	}
	w.settle()
	b.StopTimer()
	if w.Lost() > 0 {
		b.Errorf("%d of %d steps are lost", w.Lost(), b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "steps/s")
}

func BenchmarkQuery(b *testing.B) {
	w, steps := stocked(b)
	st := w.Stats()
	b.Logf("%d steps, %d segments, %.1f bytes for each step", st.Steps, st.Segments, float64(st.Bytes)/float64(st.Steps))
	run := func(name string, want int, q func(i int) Query) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				got, _, err := w.Query(soon(b), q(i))
				if err != nil || len(got) != want {
					b.Fatalf("%d records, %v", len(got), err)
				}
			}
		})
	}
	run("message", 1, func(i int) Query { return Query{Message: steps[i*7919%len(steps)].Message} })
	run("no such message", 0, func(int) Query { return Query{Message: "0193b5a2-7c1e-7d3a-9b1c-2f4e5d6a7b8c"} })
	run("newest 1000 of a location", 1000, func(i int) Query {
		return Query{Location: fmt.Sprintf("supplier-orders-%d", i%100), Limit: 1000}
	})
	run("newest 1000", 1000, func(int) Query { return Query{Limit: 1000} })
	run("one by name in a location", 1, func(int) Query {
		return Query{Location: "supplier-orders-1", Match: func(r *Record) bool { return r.Name == "order-00000001.xml" }}
	})
	run("one by name of all", 1, func(int) Query {
		return Query{Match: func(r *Record) bool { return r.Name == "order-00000001.xml" }}
	})
	b.Run("open", func(b *testing.B) {
		for range b.N {
			w.reopen()
		}
	})
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with := heap()
	w.close()
	w.Store = nil
	b.Logf("%.1f MiB of memory for the store", float64(with-heap())/(1<<20))
	w.open()
	runtime.KeepAlive(steps)
}
