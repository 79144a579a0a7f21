package bootclock

import (
	"testing"
	"time"
)

func TestClockRunsForwardAsFastAsTheOtherOne(t *testing.T) {
	before, started := Now(), time.Now()
	timer := time.NewTimer(50 * time.Millisecond)
	<-timer.C
	ran, want := Now().Sub(before), time.Since(started)
	if ran < want/2 || ran > 2*want+time.Second {
		t.Errorf("the boot clock ran %s in %s", ran, want)
	}
	if got := before.Add(time.Second).Sub(before); got != time.Second {
		t.Errorf("a second later is %s later", got)
	}
}
