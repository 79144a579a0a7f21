package membership

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// newLogger brings memberlist's lines, which begin with a level, into the log.
func newLogger(to *slog.Logger) *log.Logger {
	return log.New(&logWriter{log: to, now: time.Now}, "", 0)
}

type logWriter struct {
	log    *slog.Logger
	now    func() time.Time
	echoes echoes
}

// everyday is what memberlist calls an error, and happens where nodes come and go.
var everyday = []string{"Failed to send", "Push/Pull with", "fallback TCP ping"}

// Write implements io.Writer for one line. Errors are told as warnings, and not
// again and again: a node with another key tries several times a second.
func (l *logWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	for _, prefix := range []string{"[ERR] ", "[WARN] ", "[INFO] ", "[DEBUG] "} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			line = rest
			if prefix == "[ERR] " {
				level = slog.LevelWarn
			}
			break
		}
	}
	line = strings.TrimPrefix(line, "memberlist: ")
	for _, text := range everyday {
		if strings.Contains(line, text) {
			level = slog.LevelDebug
		}
	}
	args := []any{"part", "gossip"}
	if level > slog.LevelDebug {
		what, _, _ := strings.Cut(line, " from=") // which ends in a port
		before, due := l.echoes.due(what, l.now())
		if !due {
			return len(p), nil
		}
		args = append(args, "alike_before", before)
	}
	l.log.Log(context.Background(), level, line, args...)
	return len(p), nil
}

const (
	// echoEvery is how often the log hears the same thing.
	echoEvery = 30 * time.Second
	maxEchoes = 1000
)

// echoes keeps what happens again and again from filling the log. Its zero value is
// ready.
type echoes struct {
	mu   sync.Mutex
	seen map[string]*echo
}

type echo struct {
	at    time.Time
	alike int
}

// due reports whether to tell of it, and how often it was kept back before.
func (es *echoes) due(what string, now time.Time) (before int, due bool) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if e := es.seen[what]; e != nil {
		if now.Sub(e.at) < echoEvery {
			e.alike++
			return 0, false
		}
		before = e.alike
	}
	if es.seen == nil || len(es.seen) >= maxEchoes {
		es.seen = map[string]*echo{}
	}
	es.seen[what] = &echo{at: now}
	return before, true
}
