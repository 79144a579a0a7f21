//go:build !linux

package main

import (
	"errors"
	"os"
)

// renameatNoReplace has no counterpart here.
func renameatNoReplace(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

// beginWriteBack has no counterpart here; fsync does all.
func beginWriteBack(_ *os.File, _, _ int64) {}
