// Package bootclock reads the clock that leases are measured on: it never steps,
// counts the time a machine is suspended (unlike the runtime's monotonic clock,
// golang/go#24595), and is the same for all processes of a machine. Its values
// mean nothing on another machine or after a reboot.
package bootclock

import "time"

// Time is a reading of the boot clock, in nanoseconds.
type Time int64

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }
