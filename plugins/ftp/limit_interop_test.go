package main

import (
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// crowdedServers are real servers that let one client in, who is there: holder.
func crowdedServers(t *testing.T, test func(t *testing.T, s *realServer, holder *source)) {
	serverScripts(t)
	for _, name := range []string{"vsftpd", "proftpd", "pureftpd"} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, "MAX_CLIENTS=1")
			holder := newSource(t, with(s.props, "connection_limit", 1))
			// It may still count the client that looked whether it has started.
			waitFor(t, "the server to be free", func() bool { _, err := holder.List(testContext(t)); return err == nil })
			test(t, s, holder)
		})
	}
}

func TestInteropConnectionLimit(t *testing.T) {
	crowdedServers(t, func(t *testing.T, s *realServer, _ *source) {
		props := with(s.props, "connection_limit", 1)
		var wg sync.WaitGroup
		for range 3 {
			k := newSink(t, props)
			wg.Go(func() {
				for range 3 {
					if err := k.Send(testContext(t), newMessage(t, []byte("x"))); err != nil {
						t.Errorf("send: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(s.names(t)); n != 9 {
			t.Errorf("%d files, want 9", n)
		}
	})
}

// What the servers say when they are full is understood.
func TestInteropFullServerBacksOff(t *testing.T) {
	crowdedServers(t, func(t *testing.T, s *realServer, holder *source) {
		list(t, holder)
		_, err := newSource(t, s.props).List(testContext(t))
		if !sdk.IsDisconnected(err) {
			t.Errorf("%v is not Disconnected", err)
		}
		mustContain(t, err, "set connection_limit")
	})
}
