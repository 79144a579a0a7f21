package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

const (
	// slowStable is the location's stable_for, slowPause the longest pause of the writer.
	slowStable = 600 * time.Millisecond
	slowPause  = 120 * time.Millisecond
	slowPieces = 12
)

// appendSlowly appends random pieces to a file with random pauses, and returns all of it
// and the longest pause that it really made.
func appendSlowly(t *testing.T, path string, random *rand.Rand) (whole []byte, longest time.Duration) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Error(err)
		return nil, 0
	}
	defer f.Close()
	last := time.Now()
	for i := range slowPieces {
		piece := bytes.Repeat([]byte{byte('a' + i)}, 1+random.IntN(5000))
		if _, err := f.Write(piece); err != nil {
			t.Error(err)
		}
		whole, longest, last = append(whole, piece...), max(longest, time.Since(last)), time.Now()
		<-time.NewTimer(time.Duration(random.Int64N(int64(slowPause)))).C // the world's pause, not the test's
	}
	return whole, longest
}

// takenFromSlowWriter runs a location as the runtime does while a file is being written,
// and reports whether what it delivered was all of it. known is false if the machine was
// too slow for the writer to keep its pauses.
func takenFromSlowWriter(t *testing.T, stableFor time.Duration, seed uint64) (whole, known bool) {
	t.Helper()
	s := startServer(t)
	h := adaptertest.Start(t, adapter(), adaptertest.Endpoint{
		Name: "in", Receive: true, Properties: with(s.props, "stable_for", stableFor.String()), PollEvery: 20 * time.Millisecond,
	})
	defer h.Kill()
	type written struct {
		content []byte
		longest time.Duration
	}
	done := make(chan written, 1)
	go func() {
		content, longest := appendSlowly(t, filepath.Join(s.Dir, "a"), rand.New(rand.NewPCG(seed, 1)))
		done <- written{content, longest}
	}()
	for tries := 0; ; tries++ {
		item := h.WaitItems("in", 1)[0]
		content, err := h.Take("in", item.Key)
		if err != nil && tries < 1000 {
			continue // it has changed while it was read, which was found out
		}
		w := <-done
		if err != nil {
			t.Fatalf("never taken: %v", err)
		}
		return bytes.Equal(content.Parts[0].Content, w.content), w.longest < slowStable/2
	}
}

// apache/camel#10131, CAMEL-19378: a file that another program is still writing was
// delivered, cut off, though a read lock waited for it to stop changing.
func TestSymptomHalfAFileIsDeliveredWhileItIsWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("writes slowly")
	}
	t.Run("with stable_for", func(t *testing.T) {
		t.Parallel()
		for seed := range uint64(4) {
			if whole, known := takenFromSlowWriter(t, slowStable, seed); known && !whole {
				t.Errorf("seed %d: a part of the file was delivered", seed)
			}
		}
	})
	t.Run("without stable_for", func(t *testing.T) {
		t.Parallel()
		// So that the test above is known to be one: this is what it looks for.
		for seed := range uint64(20) {
			if whole, _ := takenFromSlowWriter(t, 0, seed); !whole {
				return
			}
		}
		t.Error("the file was always whole: the writer is not slow")
	})
}
