package tracking

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// The defaults and limits of a [Config].
const (
	DefaultMaxBytes = 256 << 20
	DefaultMaxAge   = 7 * 24 * time.Hour
	// LeastMaxBytes is the least room with which a history makes sense.
	LeastMaxBytes = 1 << 20
)

// Config says where a history is kept, and how much of it.
type Config struct {
	// Dir is the directory, made if it is not there. It belongs to the store alone: two
	// stores must not have the same.
	Dir string
	// MaxBytes bounds the disk that steps and content take together; at least
	// [LeastMaxBytes]. Content takes at most half of it. A file that has to go while a
	// query reads it goes when that has ended. Default [DefaultMaxBytes].
	MaxBytes int64
	// MaxAge bounds how long something is kept. Queries do not find what is older; on
	// the disk it may stay for up to a sixteenth longer. Default [DefaultMaxAge].
	MaxAge time.Duration
	// Log takes what people should know. Default: it is dropped.
	Log *slog.Logger
	// Now is the clock. It must be safe for concurrent use. Default [time.Now].
	Now func() time.Time
}

// withDefaults returns the config with what was left open, or says what is wrong.
func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("the history needs a directory: set Dir")
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxBytes < LeastMaxBytes {
		return c, fmt.Errorf("%d bytes are too few for the history: give it %d or more", c.MaxBytes, LeastMaxBytes)
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxAge < 0 {
		return c, fmt.Errorf("the history cannot be kept for %v: give a time above zero", c.MaxAge)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
