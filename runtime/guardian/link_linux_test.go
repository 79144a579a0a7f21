package guardian

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// linked returns both ends of a link. orphaned is closed if the runtime's end finds its
// guardian gone.
func linked(t *testing.T) (l *Link, guardian net.Conn, orphaned chan struct{}) {
	t.Helper()
	guardian, file, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(file)
	if err := errors.Join(err, file.Close(), transmit(guardian, greeting{Certifier: []byte("certifier")})); err != nil {
		t.Fatal(err)
	}
	orphaned = make(chan struct{})
	l, err = newLink(conn, func() { close(orphaned) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); guardian.Close() })
	return l, guardian, orphaned
}

// next returns the next report; ok is false at the link's end.
func next(t *testing.T, conn net.Conn) (r report, ok bool) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	err := receive(conn, &r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("nothing was said")
	}
	return r, err == nil
}

func TestLinkSaysWhatTheRuntimeSays(t *testing.T) {
	l, guardian, _ := linked(t)
	if !bytes.Equal(l.Certifier(), []byte("certifier")) {
		t.Errorf("certifier %q", l.Certifier())
	}
	if r, _ := next(t, guardian); !r.Beat {
		t.Errorf("first: %+v, want a beat that says it is attached", r)
	}
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("%s-%d.example:7947", strings.Repeat("x", 200), i))
	}
	for _, tt := range []struct {
		say  func()
		want report
	}{
		{l.Ready, report{Ready: true}},
		{l.Refuse, report{Refused: true}},
		{func() { l.SetPeers([]string{"b:1", "a:1"}) }, report{Told: true, Peers: []string{"b:1", "a:1"}}},
		{func() { l.SetPeers(many) }, report{Told: true, Peers: many[:maxPeers]}},
		{func() { l.SetPeers(nil) }, report{Told: true}},
	} {
		tt.say()
		r, _ := next(t, guardian)
		if r.Ready != tt.want.Ready || r.Refused != tt.want.Refused || r.Told != tt.want.Told || !slices.Equal(r.Peers, tt.want.Peers) {
			t.Errorf("got %+v, want %+v", r, tt.want)
		}
	}
}

// A guardian that is stopped must not stop the runtime, and gets the newest when it
// goes on.
func TestLinkNeverWaitsForTheGuardian(t *testing.T) {
	l, guardian, _ := linked(t)
	var speakers sync.WaitGroup
	for i := range 4 {
		speakers.Go(func() {
			for j := range 5000 { // many times what the socket holds
				l.Beat()
				l.SetPeers([]string{fmt.Sprintf("peer-%d-%d:1", i, j)})
			}
		})
	}
	speakers.Wait()
	l.Ready()
	l.SetPeers([]string{"last:1"})
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	var all report
	for {
		r, ok := next(t, guardian)
		if !ok {
			break
		}
		all = r.over(all)
	}
	<-closed
	if !all.Beat || !all.Ready || !slices.Equal(all.Peers, []string{"last:1"}) {
		t.Errorf("heard in the end: %+v", all)
	}
}

func TestCloseIsBoundedWhenTheGuardianIsStopped(t *testing.T) {
	l, guardian, orphaned := linked(t)
	if _, ok := next(t, guardian); !ok {
		t.Fatal("not attached")
	}
	for { // until nothing more fits in
		if err := l.conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := transmit(l.conn, report{Beat: true}); err != nil {
			break
		}
	}
	l.Beat()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	l.Beat() // says nothing, and does no harm
	select {
	case <-orphaned:
		t.Error("closing the link was taken for the guardian's end")
	default:
	}
}

// hashicorp/go-plugin#10, the second way: the first is the kernel's.
func TestRuntimeNoticesTheEndOfItsGuardian(t *testing.T) {
	_, guardian, orphaned := linked(t)
	if err := guardian.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-orphaned:
	case <-time.After(10 * time.Second):
		t.Error("the runtime does not know that it has no guardian any more")
	}
}

func TestLinkWithoutGuardianDoesNothing(t *testing.T) {
	l, err := Attach(func(string) string { return "" })
	if l != nil || err != nil {
		t.Fatalf("got %v, %v, want no link", l, err)
	}
	l.Beat()
	l.Ready()
	l.Refuse()
	l.SetPeers([]string{"a:1"})
	if l.Certifier() != nil || l.Close() != nil {
		t.Error("a link to nobody has a certifier, or cannot be closed")
	}
}

func TestAttachLeavesOtherDescriptorsAlone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, value := range []string{"x", "-1", "0", "2", fmt.Sprint(r.Fd()), "9999"} {
		l, err := Attach(func(string) string { return value })
		if l != nil || err == nil || !strings.Contains(err.Error(), LinkEnv) {
			t.Errorf("%q: got %v, %v, want an error that names %s", value, l, err, LinkEnv)
		}
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Errorf("a foreign descriptor was closed: %v", err)
	}
}
