package ledger

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// newHCLog returns a logger for raft that writes into the node's log. Raft tells
// much that only its developers need, and says several times a second that a peer
// is away, which membership says once: only errors of another kind are shown.
func newHCLog(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(sink{log.With("part", "raft")})
	return l
}

var aboutPeers = []string{"failed to appendEntries", "failed to heartbeat", "failed to pipeline", "failed to make request", "peer has newer term", "failed to transfer leadership"}

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Error && !slices.ContainsFunc(aboutPeers, func(start string) bool { return strings.HasPrefix(msg, start) }) {
		to = slog.LevelWarn
	}
	s.log.Log(context.Background(), to, msg, args...)
}
