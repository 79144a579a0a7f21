package handler

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestNoAnswerToPingsKills(t *testing.T) {
	s, _, _ := spec(t, "mute")
	s.times = times{pingEvery: 20 * time.Millisecond, pongWithin: 700 * time.Millisecond}
	h := start(t, s) // mute, but not quiet: it answers every lease with a message
	await(t, h.Done(), "the end of the handler")
	if err := h.Err(); !errors.Is(err, ErrNotAnswering) {
		t.Errorf("got %v, want ErrNotAnswering", err)
	}
	wantText(t, h.Err().Error(), "adapter mute (pid ", "stopped answering")
}

func TestAnswersToPingsKeepItAlive(t *testing.T) {
	s, _, _ := spec(t, "good")
	s.times = times{pingEvery: 20 * time.Millisecond, pongWithin: 300 * time.Millisecond}
	h := start(t, s)
	select {
	case <-h.Done():
		t.Errorf("killed: %v", h.Err())
	case <-time.After(4 * s.times.pongWithin):
	}
}

func TestSlowReceiveIsNotTheAdaptersSilence(t *testing.T) {
	s, _, _ := spec(t, "good")
	s.times = times{pingEvery: 20 * time.Millisecond, pongWithin: 300 * time.Millisecond}
	release, calls := make(chan struct{}), atomic.Int32{}
	s.Receive = func(m *adapterpb.FromAdapter) {
		if m.GetEndpointState().GetEndpoint() == "polled" && calls.Add(1) == 1 {
			<-release
		}
	}
	h := start(t, s)
	poll(t, h, "block")
	eventually(t, "Receive blocks", func() bool { return calls.Load() == 1 })
	looked := time.After(4 * s.times.pongWithin)
	select {
	case <-h.Done():
		t.Errorf("killed while we did not listen: %v", h.Err())
	case <-looked:
	}
	close(release)
	poll(t, h, "again")
	eventually(t, "it goes on", func() bool { return calls.Load() == 2 })
}

func TestEndOfLeaseKills(t *testing.T) {
	s, _, _ := spec(t, "good")
	end := bootclock.Now().Add(1500 * time.Millisecond)
	s.Lease = func() bootclock.Time { return end }
	h := start(t, s)
	await(t, h.Done(), "the end of the handler")
	if err := h.Err(); !errors.Is(err, ErrLeaseEnded) {
		t.Errorf("got %v, want ErrLeaseEnded", err)
	}
}

func TestEndOfLeaseKillsAStoppedProcess(t *testing.T) {
	s, _, _ := spec(t, "good")
	lease := atomic.Int64{}
	lease.Store(int64(bootclock.Now().Add(time.Hour)))
	s.Lease = func() bootclock.Time { return bootclock.Time(lease.Load()) }
	h := start(t, s)
	freeze(t, h.PID())
	lease.Store(0)
	await(t, h.Done(), "the end of the handler")
	if err := h.Err(); !errors.Is(err, ErrLeaseEnded) {
		t.Errorf("got %v, want ErrLeaseEnded", err)
	}
}

func TestRenewReachesTheAdapter(t *testing.T) {
	s, heard, _ := spec(t, "good")
	fixed := bootclock.Now().Add(time.Hour)
	s.Lease = func() bootclock.Time { return fixed }
	h := start(t, s)
	if got, want := heard.state(t, "lease"), sprint(fixed); got != want {
		t.Errorf("first lease %s, want %s", got, want)
	}
	later := fixed.Add(time.Minute)
	h.Renew(later)
	h.Renew(fixed) // older: ignored
	if got, want := heard.state(t, "lease"), sprint(later); got != want {
		t.Errorf("renewed lease %s, want %s", got, want)
	}
}

func TestRenewNeverBlocksOnAnAdapterThatDoesNotRead(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	freeze(t, h.PID())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	big := sendMessage(1)
	big.GetSend().GetMessage().Parts[0].Content = &adapterpb.Part_Inline{Inline: make([]byte, 256<<10)}
	var err error
	for err == nil {
		err = h.Send(ctx, big)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want deadline exceeded", err)
	}
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		for i := range 1000 {
			h.Renew(bootclock.Now().Add(time.Hour + time.Duration(i)))
		}
	}()
	await(t, renewed, "the renewals")
}

func TestExitForTheLeaseIsKnownAsSuch(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	poll(t, h, "exit-lease")
	await(t, h.Done(), "the end of the handler")
	if err := h.Err(); !errors.Is(err, ErrLeaseEnded) {
		t.Errorf("got %v, want ErrLeaseEnded", err)
	}
}
