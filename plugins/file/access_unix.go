//go:build unix

package main

import "golang.org/x/sys/unix"

// mayWrite asks whether files in the directory may be made and taken away.
func mayWrite(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

func mayRead(path string) error { return unix.Access(path, unix.R_OK) }
