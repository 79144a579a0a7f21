package handler

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// prepare prepares a process for s and sees to it that it does not stay.
func prepare(t testing.TB, s Spec) *Prepared {
	t.Helper()
	p, err := Prepare(context.Background(), PrepareSpec{
		Binary: s.Binary, RuntimeDir: s.RuntimeDir, Inherit: s.Inherit, Log: s.Log, times: s.times})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestAHandlerStartsInItsPreparedProcess(t *testing.T) {
	s, heard, log := spec(t, "echo")
	s.Endpoints = []*adapterpb.Endpoint{{Name: "erp", Properties: []byte(`{}`), MaxInFlight: 1}}
	p := prepare(t, s)
	if !alive(p.PID()) || strings.Contains(log.String(), "sink is open") {
		t.Fatalf("prepared process %d: want it alive, and no endpoint open", p.PID())
	}
	s.Prepared = p
	h := start(t, s)
	if h.PID() != p.PID() {
		t.Errorf("process %d, want the prepared one, %d", h.PID(), p.PID())
	}
	if err := p.Close(); err != nil || !alive(h.PID()) {
		t.Fatalf("closing what a handler has: %v, alive %v; want no effect", err, alive(h.PID()))
	}
	if err := h.Send(t.Context(), sendMessage(7)); err != nil {
		t.Fatal(err)
	}
	for await(t, heard.ch, "the answer").GetSent().GetCall() != 7 {
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "sink is open") {
			wantText(t, line, `"adapter":"echo"`, `"host":"intake"`)
		}
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	await(t, p.Done(), "the end of the prepared process")
}

func TestAPreparedProcessThatCannotBeUsedIsReplaced(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *Prepared){
		"dead": func(t *testing.T, p *Prepared) {
			_ = syscall.Kill(p.PID(), syscall.SIGKILL)
			await(t, p.Done(), "its end")
		},
		"dying":         func(_ *testing.T, p *Prepared) { _ = syscall.Kill(p.PID(), syscall.SIGKILL) },
		"frozen":        func(t *testing.T, p *Prepared) { freeze(t, p.PID()) },
		"closed":        func(_ *testing.T, p *Prepared) { _ = p.Close() },
		"other content": func(_ *testing.T, p *Prepared) { p.binary.SHA256 = strings.Repeat("ab", 32) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := spec(t, "good")
			p := prepare(t, s)
			spoil(t, p)
			s.Prepared = p
			begun := time.Now()
			h := start(t, s)
			if h.PID() == p.PID() {
				t.Error("it was used")
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("the start took %v", took)
			}
			if alive(p.PID()) {
				t.Error("it is left")
			}
		})
	}
}

func TestAPreparedProcessIsUsedOnce(t *testing.T) {
	s, _, _ := spec(t, "good")
	s.Prepared = prepare(t, s)
	first := start(t, s)
	s.RuntimeDir = shortDir(t)
	if second := start(t, s); second.PID() == first.PID() {
		t.Error("two handlers have one process")
	}
}

func TestClosingAPreparedProcessIsBounded(t *testing.T) {
	s, _, _ := spec(t, "stubborn")
	p := prepare(t, s)
	freeze(t, p.PID())
	begun := time.Now()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	checkNothingLeft(t, s.RuntimeDir, p.PID())
}

func TestPreparingFailsAsStartingDoes(t *testing.T) {
	s, _, _ := spec(t, "future")
	_, err := Prepare(t.Context(), PrepareSpec{Binary: s.Binary, RuntimeDir: s.RuntimeDir})
	if !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v, want ErrProtocol", err)
	}
	checkNothingLeft(t, s.RuntimeDir, 0)
}

// hashicorp/go-plugin#10, spiffe/spire#93, #351 and #1962: a runtime that was killed
// left its plugins. One that was never configured has nobody else who would end it.
func TestRegressionGoPlugin10Spire93PreparedProcessesDieWithAKilledRuntime(t *testing.T) {
	for _, role := range []string{"stubborn", "echo"} {
		t.Run(role, func(t *testing.T) {
			if _, err := os.Stat("/proc/self/stat"); err != nil && role != "echo" {
				t.Skip("the kernel kills orphans on Linux only")
			}
			c, out := startHost(t, binary(t, role), "prepare")
			pid := readPID(t, bufio.NewReader(out))
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			if !alive(pid) {
				t.Fatal("the plugin does not run")
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the plugin is gone", func() bool { return !alive(pid) })
		})
	}
}
