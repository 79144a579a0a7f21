package handler

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

var (
	// ErrStopped is what [Handler.Err] returns after a stop that was asked for by
	// Stop or Kill.
	ErrStopped = errors.New("stopped on purpose")
	// ErrLeaseEnded is the reason of a handler that was killed because the lease
	// was about to end, or that noticed its end itself.
	ErrLeaseEnded = errors.New("the node's lease was about to end")
	// ErrNotAnswering is the reason of a handler that was killed because its main
	// loop did not answer pings.
	ErrNotAnswering = errors.New("stopped answering")
	// ErrSurvives says that a process, or one that it had started, is still there
	// although it got SIGKILL: it hangs in the kernel. The error is a
	// *SurvivesError. While the process is there the node must not let another act
	// in its place before its own lease has ended.
	ErrSurvives = errors.New("does not end although it was killed")
	// ErrExited is returned by Send when the process is gone.
	ErrExited = errors.New("handler has exited")
	// ErrNotFound says that there is no binary for an adapter.
	ErrNotFound = errors.New("adapter not found")
	// ErrChecksum says that a binary is not the one that was pinned.
	ErrChecksum = errors.New("wrong checksum")
	// ErrStartTimeout says that a plugin said nothing after its start.
	ErrStartTimeout = errors.New("silent at start")
	// ErrNotPlugin says that a file is not an adapter of this protocol.
	ErrNotPlugin = errors.New("not a fairlead adapter")
	// ErrProtocol says that an adapter speaks another version of the protocol.
	ErrProtocol = errors.New("other protocol version")
)

// ExitError says how a process ended that nobody asked to end.
type ExitError struct {
	// Adapter is the adapter's name.
	Adapter string
	PID     int
	// Status is "exit status 3", "signal: killed" and the like.
	Status string
	// AtStart is set when it ended before it had said Ready.
	AtStart bool
	// Code is the exit status, -1 after a signal.
	Code int
	// Output holds the last lines it wrote to standard error, or the first ones of
	// a panic. It may be empty.
	Output []string
}

func (e *ExitError) Error() string {
	when := ""
	if e.AtStart {
		when = " at start"
	}
	text := fmt.Sprintf("adapter %s (pid %d) exited%s: %s", e.Adapter, e.PID, when, e.Status)
	switch e.Code {
	case wire.ExitLeaseEnded:
		text += " (its lease had ended)"
	case wire.ExitOrphaned:
		text += " (its standard input was closed)"
	}
	if len(e.Output) > 0 {
		text += "; its last output: " + strings.Join(e.Output, " | ")
	}
	return text
}

// Is makes an exit of the adapter's own at its lease's end an ErrLeaseEnded.
func (e *ExitError) Is(target error) bool {
	return target == ErrLeaseEnded && e.Code == wire.ExitLeaseEnded
}

// reasonError carries a sentence for people and the sentinel that programs look for.
type reasonError struct {
	text string
	is   error
}

func (e *reasonError) Error() string { return e.text }
func (e *reasonError) Unwrap() error { return e.is }

func because(is error, format string, args ...any) error {
	return &reasonError{text: fmt.Sprintf(format, args...), is: is}
}
