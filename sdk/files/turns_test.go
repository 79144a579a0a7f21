package files

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestTurnsComeOneAfterTheOtherPerFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns Turns
		done, err := turns.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := turns.Take(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		ended, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("enough")
		gaveUp := make(chan error, 1)
		go func() { _, err := turns.Take(ended, "a"); gaveUp <- err }()
		var waiting sync.WaitGroup
		inside := 0
		for range 10 {
			waiting.Go(func() {
				done, err := turns.Take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				inside++ // the race detector sees two at once
				done()
			})
		}
		synctest.Wait()
		if inside != 0 {
			t.Error("somebody else's turn came before the first was over")
		}
		cancel(reason)
		if err := <-gaveUp; !errors.Is(err, reason) {
			t.Errorf("gave up with %v", err)
		}
		done()
		waiting.Wait()
		if inside != 10 || len(turns.files) != 0 {
			t.Errorf("%d had their turn, %d files are remembered", inside, len(turns.files))
		}
	})
}
