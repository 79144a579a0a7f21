package handler

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func sendMessage(call uint64) *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{
		Call: call, Port: "erp", Message: &adapterpb.Message{Id: "0190", Parts: []*adapterpb.Part{
			{Content: &adapterpb.Part_Inline{Inline: []byte("x")}}}}}}}
}

func TestMessagesAreAnsweredInOrderAndStopIsClean(t *testing.T) {
	s, heard, _ := spec(t, "good")
	h := start(t, s)
	const n = 500
	for i := range uint64(n) {
		if err := h.Send(t.Context(), sendMessage(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := uint64(0); i < n; {
		m := await(t, heard.ch, "an answer")
		if m.GetSent() == nil {
			continue
		}
		if got := m.GetSent().GetCall(); got != i {
			t.Fatalf("answer %d, want %d", got, i)
		}
		i++
	}
	if err := h.Err(); err != nil {
		t.Errorf("running, but Err is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if alive(h.PID()) {
		t.Error("stopped, but the process is there")
	}
	if err := h.Err(); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	if err := h.Send(t.Context(), sendMessage(1)); !errors.Is(err, ErrExited) {
		t.Errorf("send after the end: got %v, want ErrExited", err)
	}
	if err := h.Stop(ctx); err != nil {
		t.Errorf("second stop: %v", err)
	}
	h.Kill() // no harm
}

func TestDrainComesAfterWhatWasSentBefore(t *testing.T) {
	s, heard, _ := spec(t, "good")
	h := start(t, s)
	for i := range uint64(100) {
		if err := h.Send(t.Context(), sendMessage(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for len(heard.ch) > 0 {
		if m := <-heard.ch; m.GetSent() != nil {
			sent++
		}
	}
	if sent != 100 {
		t.Errorf("%d of 100 messages were answered before the end", sent)
	}
}

func TestStopKillsWhatDoesNotDrain(t *testing.T) {
	s, _, _ := spec(t, "busy")
	h := start(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := h.Stop(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want deadline exceeded", err)
	}
	wantText(t, err.Error(), "was stopped before it had drained")
	if alive(h.PID()) {
		t.Error("the process is there")
	}
}

func TestStopKillsWhatDoesNotExit(t *testing.T) {
	s, _, _ := spec(t, "stubborn")
	h := start(t, s)
	begun := time.Now()
	if err := h.Stop(t.Context()); err != nil {
		t.Errorf("it drained, but Stop says %v", err)
	}
	if took := time.Since(begun); took > exitWithin+3*time.Second {
		t.Errorf("stop took %v", took)
	}
	if alive(h.PID()) {
		t.Error("the process is there")
	}
}

func TestSecondStopWithLessPatienceKills(t *testing.T) {
	s, _, _ := spec(t, "busy")
	h := start(t, s)
	first := make(chan error, 1)
	go func() { first <- h.Stop(context.Background()) }()
	eventually(t, "the first stop has begun", h.stopping.Load)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := await(t, first, "the first stop"); err == nil {
		t.Error("the first stop did not drain, but says so")
	}
}

func TestCrashIsToldFromStop(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	poll(t, h, "exit")
	await(t, h.Done(), "the end of the handler")
	var exit *ExitError
	if err := h.Err(); !errors.As(err, &exit) || errors.Is(err, ErrStopped) {
		t.Fatalf("got %v, want an ExitError", err)
	}
	if exit.Status != "exit status 4" || exit.AtStart || exit.Adapter != "good" {
		t.Errorf("got %+v", exit)
	}
}

func TestSignalFromOutsideIsReported(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	if err := syscall.Kill(h.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, h.Done(), "the end of the handler")
	wantText(t, h.Err().Error(), "adapter good (pid ", "exited: signal: killed")
}

func TestStopOfACrashedHandlerSaysHowItEnded(t *testing.T) {
	s, _, _ := spec(t, "busy")
	h := start(t, s)
	stopped := make(chan error, 1)
	go func() { stopped <- h.Stop(context.Background()) }()
	eventually(t, "the stop has begun", h.stopping.Load)
	poll(t, h, "exit")
	err := await(t, stopped, "the stop")
	var exit *ExitError
	if !errors.As(err, &exit) {
		t.Errorf("got %v, want an ExitError", err)
	}
}

func TestAcknowledgementsThatWaitedAreHeardAfterTheEnd(t *testing.T) {
	s, _, _ := spec(t, "good")
	var h *Handler
	running, sent := make(chan struct{}), atomic.Int32{}
	s.Receive = func(m *adapterpb.FromAdapter) {
		if m.GetSent() != nil && sent.Add(1) == 1 {
			<-running
			<-h.gone
		}
	}
	h = start(t, s)
	close(running)
	poll(t, h, "burst")
	eventually(t, "the first acknowledgement is here", func() bool { return sent.Load() == 1 })
	for range 5 { // whose answers come behind the acknowledgements
		if _, err := h.inst.describe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(h.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, h.Done(), "the end of the handler")
	if got := sent.Load(); got != burst {
		t.Errorf("%d of %d acknowledgements were heard", got, burst)
	}
}

func TestAcknowledgementsBeforeTheEndAreHeard(t *testing.T) {
	s, heard, _ := spec(t, "good")
	h := start(t, s)
	poll(t, h, "last-ack")
	await(t, h.Done(), "the end of the handler")
	for len(heard.ch) > 0 {
		if m := <-heard.ch; m.GetSent().GetCall() == 99 {
			wantText(t, h.Err().Error(), "its stream ended, but not its process: over")
			return
		}
	}
	t.Error("the last acknowledgement was lost")
}

func TestKillIsBoundedForAStoppedProcess(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	freeze(t, h.PID())
	begun := time.Now()
	if err := h.Kill(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("kill took %v", took)
	}
	if alive(h.PID()) {
		t.Error("the process is there")
	}
	await(t, h.Done(), "the end of the handler")
	if err := h.Err(); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

func TestStopIsBoundedForAStoppedProcess(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	freeze(t, h.PID())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := h.Stop(ctx); err == nil {
		t.Error("a stopped process did not drain, but Stop says so")
	}
	if took := time.Since(begun); took > exitWithin+3*time.Second {
		t.Errorf("stop took %v", took)
	}
}

// A slow consumer of ours must not make us kill an adapter that does answer.
// Answers sent from Receive must not wait for content that waits for Receive.
func TestReceiveMayAnswerWhileContentIsStuck(t *testing.T) {
	s, _, _ := spec(t, "good")
	var h atomic.Pointer[Handler]
	answered := make(chan error, 1<<14)
	s.Receive = func(m *adapterpb.FromAdapter) {
		if m.GetSent() == nil {
			return
		}
		answered <- h.Load().Send(context.Background(), &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{
			Settle: &adapterpb.Settle{Location: "l", Key: "k"}}})
	}
	h.Store(start(t, s))
	const n = 3000
	for i := range uint64(n) {
		if err := h.Load().Send(t.Context(), sendMessage(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := await(t, answered, "an answer from Receive"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsQueuedIsSentBeforeTheEndOfTheStream(t *testing.T) {
	h := &Handler{
		control: make(chan *adapterpb.ToAdapter, 100), content: make(chan *adapterpb.ToAdapter, 100),
		hangUp: make(chan struct{}),
	}
	for i := range uint64(20) {
		h.control <- sendMessage(i)
		h.content <- sendMessage(i)
	}
	close(h.hangUp)
	sent := 0
	for h.next(&urgent{}) != nil {
		sent++
	}
	if sent != 40 {
		t.Errorf("%d of 40 messages were sent", sent)
	}
}

func TestSendRefusesWhatIsNotForCallers(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	err := h.Send(t.Context(), leaseMessage(1))
	if err == nil {
		t.Error("a lease was accepted from a caller")
	}
	big := sendMessage(1)
	big.GetSend().GetMessage().Parts[0].Content = &adapterpb.Part_Inline{Inline: make([]byte, 17<<20)}
	if err := h.Send(t.Context(), big); err == nil {
		t.Error("a message over the limit was accepted")
	} else {
		wantText(t, err.Error(), "is over the limit of 16777216: spool its content")
	}
}

// What a runtime tells a location has to reach it.
func TestSendTakesAllThatIsForCallers(t *testing.T) {
	s, _, _ := spec(t, "good")
	h := start(t, s)
	for _, m := range []*adapterpb.ToAdapter{
		{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: "in"}}},
		{Kind: &adapterpb.ToAdapter_Pause{Pause: &adapterpb.Pause{Location: "in", Paused: true}}},
		{Kind: &adapterpb.ToAdapter_Recall{Recall: &adapterpb.Recall{Location: "in", Key: "x"}}},
		{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{Location: "in", Key: "x"}}},
		{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{Location: "in", Key: "x"}}},
		{Kind: &adapterpb.ToAdapter_Drain{Drain: &adapterpb.Drain{}}},
	} {
		if err := h.Send(t.Context(), m); err != nil {
			t.Errorf("%T: %v", m.GetKind(), err)
		}
	}
}

// Whoever attaches the handler to something after Start may let Receive wait.
func TestReceiveMayWaitForStartToReturn(t *testing.T) {
	s, heard, _ := spec(t, "early")
	started := make(chan struct{})
	s.Receive = func(m *adapterpb.FromAdapter) {
		<-started
		heard.receive(m)
	}
	h := start(t, s)
	close(started)
	if got := heard.state(t, "early"); got != "bird" {
		t.Errorf("got %q", got)
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAdapterOfTheSDK(t *testing.T) {
	s, heard, log := spec(t, "echo")
	s.Endpoints = []*adapterpb.Endpoint{{Name: "erp", Properties: []byte(`{}`), MaxInFlight: 16}}
	h := start(t, s)
	if err := h.Send(t.Context(), sendMessage(7)); err != nil {
		t.Fatal(err)
	}
	var sent *adapterpb.Sent
	for sent == nil {
		sent = await(t, heard.ch, "the answer").GetSent()
	}
	if sent.GetCall() != 7 || sent.GetError() != nil {
		t.Errorf("answer: %v", sent)
	}
	begun := time.Now()
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %v", time.Since(begun))
	wantText(t, log.String(), `"level":"INFO","msg":"sink is open"`, `"endpoint":"erp"`)
}
