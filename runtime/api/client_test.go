package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDialRefusesWhatIsNoAddress(t *testing.T) {
	for _, address := range []string{"", "ftp://host", "http://", "unix:" + strings.Repeat("/x", 60), "http://a b"} {
		if _, err := Dial(address); err == nil {
			t.Errorf("address %q was taken", address)
		}
	}
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	for _, address := range []string{filepath.Join(shortDir(t), "none.sock"), "http://127.0.0.1:1"} {
		c := dial(t, address)
		if _, err := c.Status(within(t)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("status at %s: got %v, want ErrUnreachable", address, err)
		}
		err := c.FollowEvents(within(t), 0, func(Event) error { return nil })
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("events at %s: got %v, want ErrUnreachable", address, err)
		}
	}
}

func TestNoAnswerInTimeIsUnreachable(t *testing.T) {
	b := sample()
	b.hold = make(chan struct{})
	_, socket := serveOn(t, b, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := dial(t, socket).Status(ctx)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrUnreachable by deadline", err)
	}
}

func TestSomethingElseAtTheAddressIsSaidSo(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadGateway} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>"))
		}))
		_, err := dial(t, web.URL).Status(within(t))
		web.Close()
		if err == nil || !strings.Contains(err.Error(), "is it a fairlead node?") {
			t.Errorf("HTML with status %d: got %v", status, err)
		}
	}
}

func TestFollowerGetsPastAndLiveEventsInOrder(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{Heartbeat: time.Millisecond})
	got := make(chan Event)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	c := dial(t, socket)
	go func() {
		ended <- c.FollowEvents(ctx, 3, func(e Event) error { got <- e; return nil })
	}()
	if e := <-got; e.Index != 9 || e.Epoch != 4 {
		t.Errorf("first event %+v, want index 9", e)
	}
	live := Event{Index: 10, Kind: "node-expired", Node: "node-a", Text: "line\nbreak", At: time.Unix(1, 0).UTC()}
	b.live <- live
	if e := <-got; !reflect.DeepEqual(e, live) {
		t.Errorf("live event %+v, want %+v", e, live)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("follow ended with %v, want the caller's cancellation", err)
	}
	await(t, "the backend's stream ends with its reader", func() bool { return b.followers() == 0 })
}

func TestStopEndsEventStreams(t *testing.T) {
	b := sample()
	s, socket := serveOn(t, b, Options{})
	ended := make(chan error, 1)
	c, ctx := dial(t, socket), within(t)
	go func() { ended <- c.FollowEvents(ctx, 0, func(Event) error { return nil }) }()
	await(t, "the stream begins", func() bool { return b.followers() == 1 })
	stop(t, s)
	if err := <-ended; !errors.Is(err, ErrUnreachable) {
		t.Errorf("follow ended with %v, want ErrUnreachable", err)
	}
	if b.followers() != 0 {
		t.Error("the backend still follows after stop")
	}
}

func TestFailureOfTheBackendReachesTheFollower(t *testing.T) {
	b := sample()
	b.err = Unavailable("the replica was lost")
	close(b.live)
	_, socket := serveOn(t, b, Options{})
	var p *Problem
	err := dial(t, socket).FollowEvents(within(t), 9, func(Event) error { return nil })
	if !errors.As(err, &p) || p.Type != TypeNoQuorum || p.Detail != "the replica was lost" {
		t.Errorf("got %v, want the backend's problem", err)
	}
}

func TestFollowerThatFailsEndsTheStream(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	enough := errors.New("enough")
	if err := dial(t, socket).FollowEvents(within(t), 0, func(Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the follower's own error", err)
	}
	await(t, "the backend's stream ends with its reader", func() bool { return b.followers() == 0 })
}

func TestBrowserReconnectsAfterTheLastEventItSaw(t *testing.T) {
	b := sample()
	close(b.live)
	s, _ := serveOn(t, b, Options{})
	resp := do(t, s, "GET", "/v1/events?after=0", "", map[string]string{"Accept": "text/event-stream", "Last-Event-ID": "3"})
	if strings.Contains(resp.body, "id: 3\n") || !strings.Contains(resp.body, "id: 9\n") {
		t.Errorf("got stream %q, want event 9 only", resp.body)
	}
	if resp.contentType != "text/event-stream" {
		t.Errorf("got content type %q", resp.contentType)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s, socket := serveOn(t, sample(), Options{})
	for range maxStreams {
		s.streamSlots <- struct{}{}
	}
	var p *Problem
	err := dial(t, socket).FollowEvents(within(t), 0, func(Event) error { return nil })
	if !errors.As(err, &p) || p.Status != http.StatusTooManyRequests {
		t.Errorf("got %v, want 429", err)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not seen in 10 s: %s", what)
		}
	}
}
