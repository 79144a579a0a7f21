package sdk

import (
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// A polled location is backing off as long as listing or any settle fails, polling
// while it lists, and idle else.

func (l *polled) setPolling(on bool) {
	l.mu.Lock()
	l.polling = on
	l.mu.Unlock()
	l.refresh()
}

func (l *polled) setListErr(err error) {
	l.mu.Lock()
	l.listErr = err
	l.mu.Unlock()
	l.refresh()
}

// listed ends a round.
func (l *polled) listed(err error) {
	l.mu.Lock()
	l.polling, l.listErr = false, err
	l.mu.Unlock()
	l.refresh()
}

// settleFares notes how the settling of one item goes. nil also forgets the item.
func (l *polled) settleFares(key string, err error) {
	l.mu.Lock()
	if err == nil {
		delete(l.settleErrs, key)
	} else {
		l.settleErrs[key] = err
	}
	l.mu.Unlock()
	l.refresh()
}

// failing says that listing failed the last time.
func (l *polled) failing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listErr != nil
}

func (l *polled) refresh() {
	l.mu.Lock()
	state, err := adapterpb.EndpointState_IDLE, l.listErr
	if err == nil {
		for _, err = range l.settleErrs {
			break
		}
	}
	switch {
	case err != nil:
		state = adapterpb.EndpointState_BACKING_OFF
	case l.polling:
		state = adapterpb.EndpointState_POLLING
	}
	l.mu.Unlock()
	if l.s.taking.Err() == nil {
		l.report(state, err)
	}
}
