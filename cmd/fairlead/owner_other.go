//go:build !unix

package main

// ownedByCaller has nothing to compare here.
func ownedByCaller(string) error { return nil }
