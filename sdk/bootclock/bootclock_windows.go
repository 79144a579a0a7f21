package bootclock

import "golang.org/x/sys/windows"

// Now returns the time since boot, in steps of some 15 ms. Sleep counts.
func Now() Time { return Time(windows.DurationSinceBoot()) }
