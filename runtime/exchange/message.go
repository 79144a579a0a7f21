package exchange

import (
	"errors"
	"fmt"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Message is what travels; its parts are in memory or in the spool.
type Message = adapterpb.Message

// AdapterError is an adapter's refusal, with what it says about trying again.
type AdapterError struct {
	Kind adapterpb.Error_Kind
	Text string
}

func (e *AdapterError) Error() string { return e.Text }

// fromWire turns an adapter's answer into an error, nil for none.
func fromWire(e *adapterpb.Error) error {
	if e == nil {
		return nil
	}
	return &AdapterError{e.GetKind(), e.GetText()}
}

// ToWire is the reverse, for answers to another node. What no adapter said is
// ambiguous, and travels as retryable.
func ToWire(err error) *adapterpb.Error {
	if err == nil {
		return nil
	}
	var a *AdapterError
	if errors.As(err, &a) {
		return &adapterpb.Error{Kind: a.Kind, Text: a.Text}
	}
	return &adapterpb.Error{Kind: adapterpb.Error_RETRYABLE, Text: err.Error()}
}

// ErrInterrupted marks an attempt that was cut off from outside (the handler or
// its node ended): it may have had its effect, and does not count against the
// port's retries.
var ErrInterrupted = errors.New("interrupted")

// Unreachable is the error of a port that cannot be tried at all just now.
func Unreachable(format string, args ...any) error {
	return &AdapterError{adapterpb.Error_DISCONNECTED, fmt.Sprintf(format, args...)}
}

func kindOf(err error) adapterpb.Error_Kind {
	var a *AdapterError
	if errors.As(err, &a) {
		return a.Kind
	}
	return adapterpb.Error_RETRYABLE
}
