package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// silence is how long an event stream may show no sign of life.
	silence  = 3 * heartbeat
	maxEvent = 1 << 20
)

// FollowEvents implements Backend. It ends with ErrUnreachable when the node goes
// away or shows no sign of life for 45 s; the caller may go on after the last
// event's index, at any node.
func (c *Client) FollowEvents(ctx context.Context, after uint64, each func(Event) error) error {
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errSilent := errors.New("no sign of life")
	alive := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer alive.Stop()

	resp, err := c.send(ctx, http.MethodGet, "/v1/events?follow=1&after="+strconv.FormatUint(after, 10), "text/event-stream", nil)
	if err != nil {
		return c.streamError(caller, ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var kind, data string
	for lines.Scan() {
		alive.Reset(silence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			kind = value
		case "data":
			data = value
		}
		if lines.Text() != "" || data == "" {
			continue
		}
		if err := c.dispatch(kind, data, each); err != nil {
			return err
		}
		kind, data = "", ""
	}
	err = lines.Err()
	if err == nil {
		err = errors.New("the node ended the stream")
	}
	return c.streamError(caller, ctx, err)
}

// dispatch hands on one frame.
func (c *Client) dispatch(kind, data string, each func(Event) error) error {
	if kind == "problem" {
		p := &Problem{}
		if err := json.Unmarshal([]byte(data), p); err != nil {
			return fmt.Errorf("read the event stream of %s: %w", c.address, err)
		}
		return p
	}
	var e Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("read the event stream of %s: %w", c.address, err)
	}
	return each(e)
}

// streamError tells the caller's own end from silence and from a broken stream.
func (c *Client) streamError(caller, stream context.Context, err error) error {
	var p *Problem
	switch {
	case caller.Err() != nil:
		return caller.Err()
	case errors.As(err, &p):
		return p
	case stream.Err() != nil:
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, context.Cause(stream))
	case errors.Is(err, ErrUnreachable):
		return err
	default:
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, err)
	}
}
