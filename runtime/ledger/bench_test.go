package ledger

import (
	"fmt"
	"sync"
	"testing"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// BenchmarkFates commits batches of 64 changes from eight proposers at a time,
// with real disks and connections. One operation is one batch. Half of the
// batches forget what the other half intended, so that the state stays small.
func BenchmarkFates(b *testing.B) {
	const changes, proposers = 64, 8
	for _, names := range [][]string{{"a"}, {"a", "b", "c"}} {
		b.Run(fmt.Sprintf("%dnodes", len(names)), func(b *testing.B) {
			leader := bootstrapped(b, names...).leader()
			for _, c := range []*pb.Command{register("a", "a1"), grant("a1"), deploy(1, "g"), assign(place("g", "a", "a1"), 0)} {
				if _, err := leader.Apply(within(b), c); err != nil {
					b.Fatal(err)
				}
			}
			ctx := b.Context()
			work := make(chan struct{})
			var wg sync.WaitGroup
			b.ResetTimer()
			for p := range proposers {
				wg.Go(func() {
					intend, forget := make([]*pb.FateChange, changes), make([]*pb.FateChange, changes)
					for i := range changes {
						key := fmt.Sprintf("incoming/%d/order-%04d.xml", p, i)
						intend[i] = intended(key, fmt.Sprintf("0198f2c4-7e1a-7000-8000-%04d%08d", p, i), "warehouse")
						forget[i] = forgotten(key)
					}
					next, then := fates("g", "a1", 1, intend...), fates("g", "a1", 1, forget...)
					for range work {
						if _, err := leader.Apply(ctx, next); err != nil {
							b.Error(err)
						}
						next, then = then, next
					}
				})
			}
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*changes)/b.Elapsed().Seconds(), "fates/s")
		})
	}
}
