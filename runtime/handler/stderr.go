package handler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxLine is how much of a line is kept; the rest is skipped.
	maxLine = 64 << 10
	// maxAttrs bounds the attributes of one line.
	maxAttrs = 64
	// tailLines and tailWidth bound what an error tells of a process's output.
	tailLines = 10
	tailWidth = 300
)

// eachLine calls f for every line of r until r ends. Lines are at most maxLine
// bytes; cut says that there was more. The slice is valid during the call.
func eachLine(r io.Reader, f func(line []byte, cut bool)) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		text := strings.TrimRight(string(line), "\r\n")
		if text != "" {
			f([]byte(text), cut)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// logLine writes one line of a plugin into the node's log: JSON of the SDK (or of
// hclog) with its level and attributes, anything else as a warning. The line comes
// from another process and may be anything.
func logLine(log *slog.Logger, line []byte, cut bool, stream string) {
	ctx := context.Background()
	if !cut {
		if r, ok := parseRecord(line); ok {
			if log.Enabled(ctx, r.Level) {
				_ = log.Handler().Handle(ctx, r)
			}
			return
		}
	}
	attrs := []slog.Attr{slog.String("stream", stream), slog.String("line", printable(line))}
	if cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	log.LogAttrs(ctx, slog.LevelWarn, "adapter output", attrs...)
}

// parseRecord reads a line as slog's JSON handler writes it, or hclog's.
func parseRecord(line []byte) (slog.Record, bool) {
	if len(line) == 0 || line[0] != '{' {
		return slog.Record{}, false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil {
		return slog.Record{}, false
	}
	msg, ok := take(fields, "msg", "@message")
	if !ok {
		return slog.Record{}, false
	}
	level, _ := take(fields, "level", "@level")
	at, _ := take(fields, "time", "@timestamp")
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		when = time.Now()
	}
	r := slog.NewRecord(when, parseLevel(level), printable([]byte(msg)), 0)
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys[:min(len(keys), maxAttrs)] {
		r.AddAttrs(slog.Any(printable([]byte(k)), value(fields[k])))
	}
	return r, true
}

// take removes the first of keys from fields that is a string, and returns it.
func take(fields map[string]json.RawMessage, keys ...string) (string, bool) {
	for _, k := range keys {
		raw, ok := fields[k]
		if !ok {
			continue
		}
		var s string
		if json.Unmarshal(raw, &s) == nil {
			delete(fields, k)
			return s, true
		}
	}
	return "", false
}

func parseLevel(s string) slog.Level {
	var l slog.Level
	switch {
	case strings.EqualFold(s, "trace"):
		return slog.LevelDebug
	case l.UnmarshalText([]byte(s)) == nil:
		return l
	}
	return slog.LevelInfo
}

// value keeps strings, numbers and booleans what they are; the rest stays JSON.
func value(raw json.RawMessage) any {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	switch v := v.(type) {
	case string:
		return printable([]byte(v))
	case float64:
		if i, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return i
		}
		return v
	case bool:
		return v
	}
	return string(raw)
}

func printable(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// tail remembers the end of a process's output, or the beginning of its panic: a
// stack's last lines say nothing. It is safe for concurrent use.
type tail struct {
	mu       sync.Mutex
	kept     []string
	panicked bool
}

func (t *tail) add(line []byte) {
	s := printable(line)
	if len(s) > tailWidth {
		s = strings.ToValidUTF8(s[:tailWidth], "") + "..."
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.panicked && (strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ")) {
		t.panicked, t.kept = true, nil
	}
	switch {
	case len(t.kept) < tailLines:
		t.kept = append(t.kept, s)
	case !t.panicked:
		t.kept = append(t.kept[1:], s)
	}
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.kept)
}

// lineWriter logs what is written to it, line by line: the SDK's os.Stdout and
// os.Stderr arrive over gRPC in arbitrary pieces.
type lineWriter struct {
	log    *slog.Logger
	stream string
	rest   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		if i > 0 {
			logLine(w.log, w.rest[:i], false, w.stream)
		}
		w.rest = w.rest[i+1:]
	}
	if len(w.rest) >= maxLine {
		logLine(w.log, w.rest[:maxLine], true, w.stream)
		w.rest = nil
	}
	return len(p), nil
}
