//go:build !linux

package guardian

import (
	"context"
	"errors"
	"fmt"
)

// Supported tells whether Run works on this platform.
const Supported = false

// Attach returns nil: there is no guardian on this platform.
func Attach(func(string) string) (*Link, error) { return nil, nil }

// Run does nothing on this platform.
func Run(context.Context, Config) (int, error) {
	return 0, fmt.Errorf("guardian: %w on this platform", errors.ErrUnsupported)
}
