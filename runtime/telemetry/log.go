// Package telemetry makes a node's logger and its metrics.
//
// Of the log it promises one line per record, in a form that people or machines
// read, with the node's name in each. What must not be logged is the business of
// whoever logs: secrets have types that print as ***.
//
// Of the metrics it promises names and meanings that stay, and that every sample of
// one scrape is of the same moment: it makes them of one [Snapshot]. What is in that
// is the node's business.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Formats are the values of log.format.
var Formats = []string{"text", "json"}

// LogOptions say how a node logs. The zero value logs text from info upwards.
type LogOptions struct {
	// Level is debug, info, warn or error; default info.
	Level string
	// Format is text (key=value) or json; default text.
	Format string
	// Node is added to every record if not empty.
	Node string
}

// NewLogger returns a logger that writes to w, and its level, which may be changed
// while it is in use. Records written at the same time do not mix.
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := SetLevel(level, o.Level); err != nil {
		return nil, nil, err
	}
	var h slog.Handler
	switch o.Format {
	case "", "text":
		h = slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	case "json":
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	default:
		return nil, nil, fmt.Errorf("log format %q: want %s", o.Format, strings.Join(Formats, " or "))
	}
	log := slog.New(h)
	if o.Node != "" {
		log = log.With("node", o.Node)
	}
	return log, level, nil
}

// SetLevel sets level to debug, info, warn or error; an empty name is info.
func SetLevel(level *slog.LevelVar, name string) error {
	if name == "" {
		name = "info"
	}
	switch name {
	case "debug", "info", "warn", "error":
		return level.UnmarshalText([]byte(name))
	default:
		return fmt.Errorf("log level %q: want debug, info, warn or error", name)
	}
}
