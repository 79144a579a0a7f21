package sdk

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

func TestAGuardedConnectionWritesNothingAfterTheLease(t *testing.T) {
	now := bootclock.Time(1)
	ended := 0
	l := newLease(func() bootclock.Time { return now }, func() { ended++ })
	defer l.stop()
	l.renew(now.Add(time.Hour))
	here, there := net.Pipe()
	defer here.Close()
	got := make(chan string, 1)
	go func() { // ends when here is closed
		data, _ := io.ReadAll(there)
		got <- string(data)
	}()
	c := Guard(context.WithValue(t.Context(), leaseKey{}, l), here)
	if _, err := c.Write([]byte("RETR a")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour) // frozen in the middle of a dialogue, and awake again
	if _, err := c.Write([]byte("DELE a")); !errors.Is(err, errNoLease) {
		t.Errorf("write after the lease: %v", err)
	}
	here.Close()
	if data := <-got; data != "RETR a" || ended != 1 {
		t.Errorf("the peer got %q; the end was told %d times", data, ended)
	}
	if Guard(t.Context(), here) != here {
		t.Error("guarded without a lease")
	}
}
