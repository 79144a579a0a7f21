package host

import (
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func state(location string, s adapterpb.EndpointState_State, kind adapterpb.Error_Kind, text string) *adapterpb.FromAdapter {
	m := &adapterpb.EndpointState{Endpoint: location, Receive: true, State: s}
	if text != "" {
		m.Error = &adapterpb.Error{Kind: kind, Text: text}
	}
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: m}}
}

func isAway(text string) *adapterpb.FromAdapter {
	return state("in", adapterpb.EndpointState_BACKING_OFF, adapterpb.Error_DISCONNECTED, text)
}

func isIdle() *adapterpb.FromAdapter { return state("in", adapterpb.EndpointState_IDLE, 0, "") }

func lists() *adapterpb.FromAdapter { return state("in", adapterpb.EndpointState_POLLING, 0, "") }

func listing() *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Listing{Listing: &adapterpb.Listing{Location: "in"}}}
}

func settleFailed(kind adapterpb.Error_Kind) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Settled{Settled: &adapterpb.Settled{
		Location: "in", Key: "k", Error: &adapterpb.Error{Kind: kind, Text: "x"}}}}
}

// step is what is heard, after seconds from the beginning.
type step struct {
	at int
	m  *adapterpb.FromAdapter
}

func TestWhatCountsAsAStall(t *testing.T) {
	const never = -1
	for _, c := range []struct {
		name  string
		steps []step
		look  int // seconds
		since int // seconds, or never
	}{
		{"nothing heard", nil, 3600, never},
		{"idle for a day", []step{{0, isIdle()}}, 86400, never},
		{"out of reach, for a moment", []step{{10, isAway("refused")}}, 69, never},
		{"out of reach, for long", []step{{10, isAway("refused")}}, 70, 10},
		{"with changing errors", []step{{10, isAway("refused")}, {40, isAway("no route")}, {65, isAway("refused")}}, 70, 10},
		{"another kind of error", []step{{10, state("in", adapterpb.EndpointState_BACKING_OFF, adapterpb.Error_RETRYABLE, "550 no such directory")}}, 3600, never},
		{"reached, but refused", []step{{0, isAway("refused")}, {50, state("in", adapterpb.EndpointState_BACKING_OFF, adapterpb.Error_RETRYABLE, "530 login")}}, 3600, never},
		{"back in time", []step{{0, isAway("refused")}, {50, listing()}, {50, isIdle()}}, 3600, never},
		{"back, and away again", []step{{0, isAway("refused")}, {50, listing()}, {50, isIdle()}, {100, isAway("refused")}}, 159, never},
		{"back, and away for long", []step{{0, isAway("refused")}, {50, listing()}, {50, isIdle()}, {100, isAway("refused")}}, 160, 100},
		{"idle between two attempts only", []step{{0, isAway("refused")}, {20, isIdle()}, {30, isAway("refused")}, {50, isIdle()}, {58, isAway("refused")}}, 60, 0},
		{"idle now", []step{{0, isAway("refused")}, {50, isIdle()}}, 70, never},
		{"idle for long enough", []step{{0, isAway("refused")}, {50, isIdle()}, {80, isAway("refused")}}, 139, never},
		{"listing while settling fails", []step{{0, isAway("refused")}, {50, listing()}}, 109, never},
		{"failing to settle for it", []step{{0, isAway("refused")}, {50, settleFailed(adapterpb.Error_DISCONNECTED)}}, 60, 0},
		{"a settle that was answered", []step{{0, isAway("refused")}, {50, settleFailed(adapterpb.Error_GONE)}}, 60, never},
		{"listing for minutes", []step{{0, lists()}}, 300, never},
		{"listing without an end", []step{{0, lists()}}, 360, 0},
		{"listing in pieces", []step{{0, lists()}, {300, listing()}}, 659, never},
		{"listing in pieces, then stuck", []step{{0, lists()}, {300, listing()}}, 660, 300},
		{"listed", []step{{0, lists()}, {1, listing()}, {1, isIdle()}}, 86400, never},
		{"tries again while out of reach", []step{{0, isAway("refused")}, {30, lists()}}, 60, 0},
		{"tries again after it was back", []step{{0, isAway("refused")}, {30, listing()}, {30, isIdle()}, {40, lists()}}, 300, never},
		{"stopped", []step{{0, isAway("refused")}, {9, state("in", adapterpb.EndpointState_STOPPED, 0, "")}}, 3600, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			after := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
			p := newProgress(time.Minute, 6*time.Minute)
			for _, s := range c.steps {
				p.note(s.m, after(s.at))
			}
			got := p.stalled(after(c.look))
			switch {
			case c.since == never && len(got) != 0:
				t.Errorf("stalled: %+v, want nothing", got)
			case c.since != never && (len(got) != 1 || !got[0].Since.Equal(after(c.since))):
				t.Errorf("stalled: %+v, want since %v", got, after(c.since))
			}
		})
	}
}

func TestSendPortsDoNotStall(t *testing.T) {
	p, now := newProgress(time.Minute, time.Hour), time.Now()
	m := isAway("refused")
	m.GetEndpointState().Receive = false
	p.note(m, now)
	if got := p.stalled(now.Add(time.Hour)); len(got) != 0 {
		t.Errorf("stalled: %+v", got)
	}
}

func TestAHostTellsWhichOfItsLocationsStallUntilTheHandlerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{}
		h, _ := startWith(l, func(c *Config) { c.StallAfter = 10 * time.Second })
		defer h.Kill()
		synctest.Wait()
		l.last().receive(isAway("connect 192.0.2.1:21: no route to host"))
		l.last().receive(state("in2", adapterpb.EndpointState_POLLING, 0, ""))
		time.Sleep(9 * time.Second)
		if got := h.Stalled(time.Now()); len(got) != 0 {
			t.Errorf("after 9 s: %+v", got)
		}
		time.Sleep(time.Second)
		got := h.Stalled(time.Now())
		if len(got) != 1 || got[0].Location != "in" || got[0].Polling || got[0].Error == "" {
			t.Errorf("after 10 s: %+v, want location in with its error", got)
		}
		time.Sleep(6 * time.Minute)
		got = h.Stalled(time.Now())
		if len(got) != 2 || got[1].Location != "in2" || !got[1].Polling {
			t.Errorf("after 6 min: %+v, want in and in2, which hangs in a listing", got)
		}
		l.last().end(nil)
		synctest.Wait()
		if got := h.Stalled(time.Now()); len(got) != 0 {
			t.Errorf("of a handler that has ended: %+v", got)
		}
	})
}
