package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// heartbeat is the default of Options.Heartbeat.
	heartbeat = 15 * time.Second
	// streamWrite bounds one write to a stream's reader.
	streamWrite = 10 * time.Second
)

// events answers GET /v1/events: the list after an index, or a stream of
// server-sent events that begins after it.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	follow, err := wantsStream(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !follow {
		s.only(http.MethodGet, requestTimeout, s.listEvents).ServeHTTP(w, r)
		return
	}
	if !s.allow(w, r, http.MethodGet) {
		return
	}
	after, err := afterIndex(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	select {
	case s.streamSlots <- struct{}{}:
		defer func() { <-s.streamSlots }()
		s.stream(w, r, after)
	default:
		s.fail(w, r, problem(typeUnspecified, "too many event streams", http.StatusTooManyRequests,
			"this node already serves %d event streams; close one or ask another node", []any{maxStreams}))
	}
}

func wantsStream(r *http.Request) (bool, error) {
	if v := r.URL.Query().Get("follow"); v != "" {
		follow, err := strconv.ParseBool(v)
		if err != nil {
			return false, BadRequest("follow=%q: want 1 or 0", v)
		}
		return follow, nil
	}
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream"), nil
}

// afterIndex takes the browser's Last-Event-ID first: on a reconnect it is newer
// than what stands in the address.
func afterIndex(r *http.Request) (uint64, error) {
	for _, v := range []string{r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after")} {
		if v == "" {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, BadRequest("after %q: want the index of an event", v)
		}
		return n, nil
	}
	return 0, nil
}

func (s *Server) listEvents(r *http.Request) (any, error) {
	after, err := afterIndex(r)
	if err != nil {
		return nil, err
	}
	return list(s.backend.Events(r.Context(), after))
}

// stream serves one event stream until the peer goes, the server stops or the
// backend fails.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, after uint64) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()

	out := &eventWriter{w: w, rc: http.NewResponseController(w)}
	// The next request on this connection gets a deadline of its own.
	_ = out.rc.SetReadDeadline(time.Time{})
	defer func() { _ = out.rc.SetReadDeadline(time.Now().Add(writeSlack)) }()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if out.write(": fairlead events\n\n") != nil {
		return
	}

	var beats sync.WaitGroup
	beats.Go(func() {
		// A peer that cannot be written to is gone, and the stream with it.
		defer cancel()
		t := time.NewTicker(s.opts.Heartbeat)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if out.write(": alive\n\n") != nil {
					return
				}
			}
		}
	})
	err := s.backend.FollowEvents(ctx, after, func(e Event) error {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return out.write(fmt.Sprintf("id: %d\ndata: %s\n\n", e.Index, data))
	})
	gone := ctx.Err() != nil
	cancel()
	beats.Wait()
	if err != nil && !gone && !errors.Is(err, errPeerGone) {
		if data, jsonErr := json.Marshal(s.toProblem(r, err)); jsonErr == nil {
			_ = out.write(fmt.Sprintf("event: problem\ndata: %s\n\n", data))
		}
	}
}

var errPeerGone = errors.New("the stream's reader is gone")

// eventWriter writes whole frames, each within a time limit.
type eventWriter struct {
	mu sync.Mutex // one frame at a time: events and heartbeats
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (e *eventWriter) write(frame string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := e.w.Write([]byte(frame)); err != nil {
		return fmt.Errorf("%w: %w", errPeerGone, err)
	}
	if err := e.rc.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errPeerGone, err)
	}
	return nil
}
