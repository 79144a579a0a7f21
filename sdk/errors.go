package sdk

import "errors"

// The kinds of error an adapter returns say what the runtime does next. A plain
// error is retryable: try again by the policy. For sends that means "it may have
// arrived"; the three below say that it has not.
type kindError struct {
	kind errorKind
	err  error
}

type errorKind int

const (
	kindRetryable errorKind = iota
	kindPermanent
	kindDisconnected
	kindGone
)

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// Permanent marks an error that trying again cannot mend, such as a refused
// recipient: the item is suspended. A send has had no effect.
func Permanent(err error) error { return withKind(kindPermanent, err) }

// Disconnected marks an error of the endpoint as a whole, such as a refused
// connection or login: the endpoint is backed off, and items wait without using
// up their attempts. A send has had no effect.
func Disconnected(err error) error { return withKind(kindDisconnected, err) }

// Gone marks an error that says that the item is not at the source any more, or
// is not the one that was listed.
func Gone(err error) error { return withKind(kindGone, err) }

// IsPermanent reports whether err is marked by Permanent.
func IsPermanent(err error) bool { return kindOf(err) == kindPermanent }

// IsDisconnected reports whether err is marked by Disconnected.
func IsDisconnected(err error) bool { return kindOf(err) == kindDisconnected }

// IsGone reports whether err is marked by Gone.
func IsGone(err error) bool { return kindOf(err) == kindGone }

func withKind(k errorKind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{k, err}
}

func kindOf(err error) errorKind {
	var e *kindError
	if errors.As(err, &e) {
		return e.kind
	}
	return kindRetryable
}
