//go:build unix && !linux

package bootclock

import "golang.org/x/sys/unix"

// Now returns the machine's monotonic time, the nearest to a boot clock that is
// the same for all processes here. It may not count suspended time.
func Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("bootclock: CLOCK_MONOTONIC: " + err.Error())
	}
	return Time(ts.Nano())
}
