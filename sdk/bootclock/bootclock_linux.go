package bootclock

import "golang.org/x/sys/unix"

// Now returns the time since boot.
func Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every Linux since 2.6.39 has it; without it no lease can be trusted.
		panic("bootclock: CLOCK_BOOTTIME: " + err.Error())
	}
	return Time(ts.Nano())
}
