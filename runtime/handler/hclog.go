package handler

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// sink carries go-plugin's own log into ours. All of it is detail: whatever
// matters there is reported by this package with its reason.
type sink struct{ log *slog.Logger }

var _ hclog.SinkAdapter = sink{}

func (s sink) Accept(name string, _ hclog.Level, msg string, args ...any) {
	attrs := make([]any, 0, len(args)+2)
	attrs = append(attrs, "component", name)
	for i := 0; i+1 < len(args); i += 2 {
		attrs = append(attrs, fmt.Sprint(args[i]), fmt.Sprint(args[i+1]))
	}
	s.log.Debug(msg, attrs...)
}

func pluginLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "go-plugin", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(sink{log})
	return l
}
