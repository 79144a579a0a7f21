package membership

import (
	"errors"
	"log"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// cable is a real network connection that can be pulled out.
type cable struct {
	*memberlist.NetTransport
	out atomic.Bool
}

func newCable(t *testing.T) *cable {
	t.Helper()
	n, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: log.New(testWriter{}, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	return &cable{NetTransport: n}
}

type testWriter struct{}

func (testWriter) Write(p []byte) (int, error) { return len(p), nil }

var errOut = errors.New("the cable is out")

func (c *cable) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.out.Load() {
		return time.Now(), nil
	}
	return c.NetTransport.WriteToAddress(b, a)
}

func (c *cable) WriteTo(b []byte, addr string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (c *cable) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if c.out.Load() {
		return nil, errOut
	}
	return c.NetTransport.DialAddressTimeout(a, timeout)
}

func (c *cable) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func TestPartsFindEachOtherAfterALongPartition(t *testing.T) {
	cables := []*cable{newCable(t), newCable(t), newCable(t)}
	var ms []*Membership
	for i, name := range []string{"a", "b", "c"} {
		cfg := Config{Node: name, transport: cables[i], toTheDead: time.Millisecond}
		if i > 0 {
			cfg.Join = []string{ms[0].Address()}
		}
		ms = append(ms, gossip(t, cfg))
	}
	everybody := func(state State) {
		t.Helper()
		for i, m := range ms {
			for j, other := range []string{"a", "b", "c"} {
				if i != j {
					sees(t, m, other, string(state), in(state))
				}
			}
		}
	}
	everybody(Alive)
	for _, c := range cables {
		c.out.Store(true)
	}
	everybody(Dead)
	// Memberlist itself has forgotten the dead by now, and does not look for them.
	until(t, "memberlist to forget the dead", func() bool {
		for _, m := range ms {
			if m.list.NumMembers() != 1 {
				return false
			}
		}
		return true
	})
	for _, c := range cables {
		c.out.Store(false)
	}
	everybody(Alive)
}

func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !met() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestSeedsThatAreThereAreLeftInPeace(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	_, port, err := net.SplitHostPort(a.Address())
	if err != nil {
		t.Fatal(err)
	}
	b := gossip(t, Config{Node: "b", Join: []string{"localhost:" + port, a.Address(), "does-not-exist.invalid:1", "no port"}})
	sees(t, b, "a", "alive", in(Alive))
	if absent := b.absent(false); len(absent) != 0 {
		t.Errorf("looks for %v", absent)
	}
	if absent := b.absent(true); !slices.Contains(absent, a.Address()) {
		t.Errorf("at the start it looks for %v only", absent)
	}
	if absent := a.absent(true); len(absent) != 0 {
		t.Errorf("a node without seeds looks for %v", absent)
	}
	stop(t, a)
	sees(t, b, "a", "left", in(Left))
	if absent := b.absent(false); len(absent) == 0 {
		t.Error("does not look for a seed that is gone")
	}
}

func TestLeavingIsToldBeforeStopAndIsRemembered(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	b := gossip(t, Config{Node: "b", Join: []string{a.Address()}})
	sees(t, a, "b", "alive", in(Alive))
	for range 2 {
		if err := b.Leave(t.Context()); err != nil {
			t.Errorf("Leave: %v", err)
		}
	}
	sees(t, a, "b", "left", in(Left))
	stop(t, b)
	if err := b.Leave(t.Context()); err != nil {
		t.Errorf("Leave after Stop: %v", err)
	}
}

func TestNodesThatAreGoneAreForgottenAfterADay(t *testing.T) {
	now := time.Unix(0, 0)
	tb := newTable(nil, func() time.Time { return now })
	tb.note(Member{Name: "a", State: Alive}, nil)
	tb.note(Member{Name: "b", State: Alive}, nil)
	now = now.Add(time.Hour)
	tb.note(Member{Name: "b", State: Dead}, nil)
	now = now.Add(forgetAfter)
	tb.note(Member{Name: "b", State: Dead}, nil) // the same state since then
	tb.forget()
	if len(tb.all()) != 2 {
		t.Errorf("forgotten too soon: %v", tb.all())
	}
	now = now.Add(time.Second)
	tb.forget()
	if _, ok := tb.one("b"); ok || len(tb.all()) != 1 {
		t.Errorf("not forgotten: %v", tb.all())
	}
}

func TestSameLineIsHeardOnceInAWhile(t *testing.T) {
	var es echoes
	now := time.Unix(0, 0)
	for i, want := range []bool{true, false, false} {
		if _, due := es.due("x", now.Add(time.Duration(i)*time.Second)); due != want {
			t.Errorf("line %d: due = %v, want %v", i, due, want)
		}
	}
	if before, due := es.due("x", now.Add(echoEvery)); !due || before != 2 {
		t.Errorf("later: %d kept back, due = %v", before, due)
	}
}
