package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom connects from node i's namespace.
func dialFrom(i int, to string, within time.Duration) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is never unlocked, so that it ends with this goroutine and
		// nothing else runs in the node's namespace.
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+space(i), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err != nil {
			done <- result{nil, fmt.Errorf("enter %s: %w", space(i), err)}
			return
		}
		c, err := net.DialTimeout("tcp4", to, within)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

// echo sends back what it gets, in the test's own namespace.
func echo(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// reaches says whether node 0 gets to the hub and to node 1. Nobody listens there, but
// a refusal is an answer too.
func reaches(server string) (hub, peer bool) {
	const within = 400 * time.Millisecond
	answered := func(to string) bool {
		c, err := dialFrom(0, to, within)
		if err != nil {
			return errors.Is(err, unix.ECONNREFUSED)
		}
		c.Close()
		return true
	}
	return answered(server), answered(address(1) + ":9")
}

// The faults have to be faults: each cuts what it says, and nothing remains of it.
func TestCutsCutAndHeal(t *testing.T) {
	needNamespaces(t)
	n, err := newNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.remove(); err != nil {
			t.Error(err)
		}
	})
	server := echo(t, hubAddress+":0")
	expect := func(when string, hub, peer bool) {
		t.Helper()
		// A link that comes back takes a moment until it carries something.
		_, err := until(t.Context(), 5*time.Second, func(context.Context) string {
			if h, p := reaches(server); h != hub || p != peer {
				return fmt.Sprintf("the hub is reached: %t, the other node: %t; want %t, %t", h, p, hub, peer)
			}
			return ""
		})
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	expect("before", true, true)
	for _, cut := range []struct {
		name     string
		do, undo func() error
		hub      bool
	}{
		{"unplugged", func() error { return n.unplug(0) }, func() error { return n.plug(0) }, false},
		{"sending is lost", func() error { return n.lose(0, true) }, func() error { return n.found(0, true) }, false},
		{"receiving is lost", func() error { return n.lose(0, false) }, func() error { return n.found(0, false) }, false},
		{"estranged", func() error { return n.estrange(0) }, func() error { return n.reconcile(0) }, true},
	} {
		if err := cut.do(); err != nil {
			t.Fatal(err)
		}
		expect(cut.name, cut.hub, false)
		if err := cut.undo(); err != nil {
			t.Fatal(err)
		}
		expect("after "+cut.name, true, true)
	}
}

func TestTheSlowLinkIsSlowAndCarriesEverything(t *testing.T) {
	needNamespaces(t)
	n, err := newNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.remove(); err != nil {
			t.Error(err)
		}
	})
	server := echo(t, hubAddress+":0")
	roundTrip := func(size int) time.Duration {
		t.Helper()
		began := time.Now()
		c, err := dialFrom(0, server, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, size)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range sent {
			sent[i] = byte(rng.Uint32())
		}
		failed := make(chan error, 1)
		go func() { _, err := c.Write(sent); failed <- err }() // ends with the connection
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatal("what comes back is not what was sent")
		}
		return time.Since(began)
	}
	before := slices.Min([]time.Duration{roundTrip(1), roundTrip(1), roundTrip(1)})
	if err := n.slowDown(0, quality{delay: 50 * time.Millisecond, jitter: 20 * time.Millisecond, loss: 0.02, seed: 1}); err != nil {
		t.Fatal(err)
	}
	// A handshake and an exchange: four ways of at least 30 ms.
	if during := roundTrip(1); during < 120*time.Millisecond {
		t.Errorf("over the slow link it takes %v, without %v", during, before)
	}
	large := roundTrip(300 << 10)
	if err := n.speedUp(0); err != nil {
		t.Fatal(err)
	}
	if _, err := until(t.Context(), 5*time.Second, func(context.Context) string {
		if d := roundTrip(1); d > 20*time.Millisecond {
			return fmt.Sprintf("one byte still takes %v", d)
		}
		return ""
	}); err != nil {
		t.Fatal(err)
	}
	after := roundTrip(300 << 10)
	t.Logf("1 byte before: %v; 300 KiB during: %v, after: %v", before, large, after)
	if after > large/2 {
		t.Errorf("afterwards 300 KiB still take %v, %v before", after, large)
	}
}
