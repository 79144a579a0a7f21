package main

import (
	"fmt"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// faultyPolls is how often a connection is cut, each time at another place.
const faultyPolls = 1000

func TestNothingIsLeftAfterManyFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("many logins")
	}
	before := goleak.IgnoreCurrent()
	t.Run("faults", manyFaults) // whose servers end with it
	goleak.VerifyNone(t, before)
}

func manyFaults(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	proxy := adaptertest.NewProxy(t, s.Addr())
	props := with(s.props, "address", proxy.Addr, "stable_for", "0s")
	src, k := newSource(t, props), newSink(t, with(s.props, "address", proxy.Addr))
	m, sent, settled := newMessage(t, []byte("content")), 0, 0
	for i := range faultyPolls {
		proxy.CutAfter(int64(i * 7 % 1500))
		err := k.Send(testContext(t), m)
		m.Redelivered = true
		if err == nil {
			m, sent = newMessage(t, fmt.Append(nil, "content ", i)), sent+1
		}
		items, err := src.List(testContext(t))
		if err != nil || len(items) == 0 {
			continue
		}
		if _, err := read(t, src, items[0]); err != nil {
			continue
		}
		if src.Settle(testContext(t), items[0]) == nil {
			settled++
		}
	}
	proxy.CutAfter(-1)
	if err := k.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	for name, item := range list(t, src) {
		if err := src.Settle(testContext(t), item); err != nil && !sdk.IsGone(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d sent and %d settled between the faults", sent, settled)
	if sent == 0 || settled == 0 || sent == faultyPolls {
		t.Error("the faults were not mixed")
	}
	for _, name := range s.names(t) {
		t.Errorf("left is %s (temporary: %v)", name, files.IsTemporary(name))
	}
	src.Close()
	k.Close()
	waitNone(t, proxy)
}

// waitNone waits until the adapter has closed every connection.
func waitNone(t *testing.T, p *adaptertest.Proxy) {
	t.Helper()
	for ctx := testContext(t); p.Open() > 0; {
		if ctx.Err() != nil {
			t.Fatalf("%d connections are open", p.Open())
		}
		runtime.Gosched()
	}
}
