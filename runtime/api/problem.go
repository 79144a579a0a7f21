package api

import (
	"fmt"
	"net/http"
	"strings"
)

// Types of problems: what a script branches on. Everything else about a problem
// is for people.
const (
	TypeNotFound    = "urn:fairlead:problem:not-found"
	TypeNoQuorum    = "urn:fairlead:problem:no-quorum"
	TypeInvalid     = "urn:fairlead:problem:invalid"
	TypeConflict    = "urn:fairlead:problem:conflict"
	TypeTimeout     = "urn:fairlead:problem:timeout"
	TypeRefused     = "urn:fairlead:problem:refused"
	TypeInternal    = "urn:fairlead:problem:internal"
	typeUnspecified = "about:blank"
)

// Problem is an error as it travels: the problem details of RFC 9457 with the
// findings of a validation as an extension. A [Backend] returns one where the
// caller is to learn what went wrong; it must hold no secrets.
type Problem struct {
	// Type is one of the Type constants, or "about:blank" when Status says it all.
	Type  string `json:"type"`
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail is a sentence: what is wrong and what to do.
	Detail string `json:"detail,omitempty"`
	// Findings are the lines of a validation, each with its place in the file.
	Findings []string `json:"findings,omitempty"`
}

// Error returns the detail, or the title where there is none, and the findings
// on a line each.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if len(p.Findings) == 0 {
		return text
	}
	return text + ":\n" + strings.Join(p.Findings, "\n")
}

// NotFound says that there is no such host, adapter or the like.
func NotFound(format string, args ...any) *Problem {
	return problem(TypeNotFound, "no such thing", http.StatusNotFound, format, args)
}

// Unavailable says that the cluster cannot decide now: no quorum, no leader. The
// same request may succeed later or at another node.
func Unavailable(format string, args ...any) *Problem {
	return problem(TypeNoQuorum, "the cluster cannot decide", http.StatusServiceUnavailable, format, args)
}

// Conflict says that the request is well formed but impossible in the present
// state, such as moving a host to a node that may not own it.
func Conflict(format string, args ...any) *Problem {
	return problem(TypeConflict, "not possible now", http.StatusConflict, format, args)
}

// TimedOut says that the time was up before what was asked for was complete; the
// detail says how far it got, and whether it goes on.
func TimedOut(format string, args ...any) *Problem {
	return problem(TypeTimeout, "timed out", http.StatusGatewayTimeout, format, args)
}

// Invalid says that the input is wrong; each finding is one line that says where
// and what. Nothing was changed.
func Invalid(findings ...string) *Problem {
	noun := "problems"
	if len(findings) == 1 {
		noun = "problem"
	}
	p := problem(TypeInvalid, "wrong input", http.StatusUnprocessableEntity, "the input has %d %s", []any{len(findings), noun})
	p.Findings = findings
	return p
}

// BadRequest says that the request itself is malformed.
func BadRequest(format string, args ...any) *Problem {
	return problem(TypeInvalid, "bad request", http.StatusBadRequest, format, args)
}

func problem(kind, title string, status int, format string, args []any) *Problem {
	return &Problem{Type: kind, Title: title, Status: status, Detail: fmt.Sprintf(format, args...)}
}
