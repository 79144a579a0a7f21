//go:build !linux

package main

import (
	"errors"
	"os"
)

// renameatNoReplace has no counterpart here.
func renameatNoReplace(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }
