package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// faultSteps is more than the replies that any of these conversations has.
	faultSteps = 60
	// floodMax is what a client that stops reading may have taken, with the buffers of
	// both sockets.
	floodMax = 32 << 20
)

// everyFault runs a test with every fault at every reply, until no reply is left to
// spoil. The test reports its findings with the fault's name in front.
func everyFault(t *testing.T, test func(t *testing.T, m *meddler, s *testServer, where func() string) error) {
	if testing.Short() {
		t.Skip("many silences")
	}
	for _, mlsd := range []bool{true, false} {
		for name, f := range faults {
			t.Run(fmt.Sprintf("%s, MLSD %t", name, mlsd), func(t *testing.T) {
				t.Parallel()
				patience := "200ms"
				for at := 0; ; at++ {
					if at > faultSteps {
						t.Fatal("never came to its end")
					}
					s := startServer(t, ftpd.Config{DisableMLSD: !mlsd})
					m := newMeddler(t, s.Addr(), at, f)
					m.patience = patience
					where := func() string { return fmt.Sprintf("reply %d, to %q", at, m.victim()) }
					err := within(t, testWait, func() error { return test(t, m, s, where) })
					waitFor(t, "the client's connections to end", func() bool { return m.connections() == 0 })
					if n := m.taken(); n > floodMax {
						t.Errorf("%s: %d bytes of an endless reply were read", where(), n)
					}
					if m.victim() == "" && err != nil && patience == "200ms" {
						// A busy machine; what nobody spoils may take longer.
						patience = "20s"
						at--
						continue
					}
					if m.victim() == "" {
						if err != nil {
							t.Errorf("without a fault: %v", err)
						}
						return
					}
					checkFaultError(t, m.addr, where(), err)
				}
			})
		}
	}
}

// checkFaultError is about what is read at three in the morning.
func checkFaultError(t *testing.T, host, where string, err error) {
	t.Helper()
	if err == nil || sdk.IsGone(err) {
		return // it was made good on another connection, or that one found the work done
	}
	if strings.Contains(err.Error(), testPassword) {
		t.Errorf("%s: error %q shows the password", where, err)
	}
	if !strings.Contains(err.Error(), host) {
		t.Errorf("%s: error %q does not say at which server", where, err)
	}
	if len(err.Error()) > 4<<10 {
		t.Errorf("%s: the error has %d bytes", where, len(err.Error()))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: it was not the time-out that ended it: %v", where, err)
	}
}

// Whatever reply a server spoils, and in whatever way: a message that is said to be absent
// is, one that is said to have arrived has, and the next attempt ends in one whole file.
func TestSendSurvivesEveryFaultAtEveryReply(t *testing.T) {
	everyFault(t, func(t *testing.T, m *meddler, s *testServer, where func() string) error {
		props := with(s.props, "name", "{{ftp.name}}", "if_exists", "rename", "checksum", "sha256")
		k := newSink(t, with(props, "address", m.addr, "timeout", m.patience))
		message := newMessage(t, []byte("five!"), "ftp.name", "a")
		first := k.Send(testContext(t), message)
		there := len(filesOf(t, s.Dir, "five!"))
		if first == nil && there != 1 {
			t.Errorf("%s: sent, and there are %d files", where(), there)
		}
		if first != nil && there != 0 && (k.sent.knownAbsent(message) || sdk.IsDisconnected(first) || sdk.IsPermanent(first)) {
			t.Errorf("%s: it is said not to have arrived, and it is there: %v", where(), first)
		}
		k.Close()
		if first != nil {
			sendAgain(t, newSink(t, props), message)
		}
		if got := filesOf(t, s.Dir, "five!"); len(got) != 1 {
			t.Errorf("%s: the message is in %q", where(), got)
		}
		return first
	})
}

// sendAgain does what the runtime does after a failure.
func sendAgain(t *testing.T, k *sink, m *sdk.Message) {
	t.Helper()
	m.Redelivered = true
	arrival, err := k.Probe(testContext(t), m)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if arrival == sdk.Arrived {
		return
	}
	if err := k.Send(testContext(t), m); err != nil {
		t.Errorf("send again: %v", err)
	}
}

// Whatever reply a server spoils: a file is not lost, not taken in part, not taken for
// gone, and not known under two keys.
func TestReceiveSurvivesEveryFaultAtEveryReply(t *testing.T) {
	everyFault(t, func(t *testing.T, m *meddler, s *testServer, where func() string) error {
		s.write(t, "a", []byte("five!"))
		past := time.Date(2026, 1, 5, 10, 33, 0, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(s.Dir, "a"), past, past); err != nil {
			t.Error(err)
		}
		src := newSource(t, with(s.props, "address", m.addr, "timeout", m.patience, "stable_for", "0s"))
		defer src.Close()
		key, settling, err := takeOne(t, src, where)
		src.Close()
		_, statErr := os.Stat(filepath.Join(s.Dir, "a"))
		there := statErr == nil
		if !there && !settling {
			t.Errorf("%s: the file has gone before it was read whole", where())
		}
		if settling && err == nil && there {
			t.Errorf("%s: settled, and it is still there", where())
		}
		if settling && there && sdk.IsGone(err) {
			t.Errorf("%s: said to be gone, and it is there: %v", where(), err)
		}
		if there {
			next := newSource(t, with(s.props, "stable_for", "0s"))
			defer next.Close()
			again, _, nextErr := takeOne(t, next, where)
			if nextErr != nil {
				t.Errorf("%s: taken again: %v", where(), nextErr)
			}
			if key != "" && key != again {
				t.Errorf("%s: known under the keys %q and %q", where(), key, again)
			}
		}
		return err
	})
}

// takeOne lists, reads and settles the file of the test above. settling says that it came
// that far.
func takeOne(t *testing.T, src *source, where func() string) (key string, settling bool, err error) {
	t.Helper()
	items, err := src.List(testContext(t))
	if err != nil {
		return "", false, err
	}
	if len(items) != 1 {
		t.Errorf("%s: %d files are listed, and there is one", where(), len(items))
		return "", false, nil
	}
	got, err := readContext(testContext(t), src, items[0])
	if err != nil {
		if sdk.IsGone(err) || sdk.IsPermanent(err) {
			t.Errorf("%s: given up for good: %v", where(), err)
		}
		return items[0].Key, false, err
	}
	if string(got) != "five!" {
		t.Errorf("%s: %q was taken for the whole file", where(), got)
	}
	return items[0].Key, true, src.Settle(testContext(t), items[0])
}
