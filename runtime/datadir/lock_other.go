//go:build !unix && !windows

package datadir

import (
	"errors"
	"os"
)

// lockFile: this platform has no lock that ends with its process.
func lockFile(*os.File) error { return errors.ErrUnsupported }
