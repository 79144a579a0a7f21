package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a finding keeps a file from being used.
type Severity string

const (
	// Error: the file is refused.
	Error Severity = "error"
	// Warning: the file is used; somebody should look at it.
	Warning Severity = "warning"
)

// Finding is one thing that is wrong, or doubtful, in a file.
type Finding struct {
	Severity Severity `json:"severity"`
	// File is the file's name. For a value that did not come from the file it is
	// where it came from ("environment FAIRLEAD_NODE__ROLE", "flag --node.role"),
	// and Line and Column are 0.
	File string `json:"file"`
	// Line and Column count from 1, columns in characters.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Path is the key's path, such as receive_locations.orders.to[1]; empty for
	// the file as a whole.
	Path string `json:"path,omitempty"`
	// Problem says what is wrong, Remedy what to do about it.
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

// String returns "file:line:column: path: problem; remedy".
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		b.WriteString(":" + strconv.Itoa(f.Line) + ":" + strconv.Itoa(f.Column))
	}
	b.WriteString(": ")
	if f.Severity == Warning {
		b.WriteString("warning: ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Findings are all findings of one file in the order of their positions. As an
// error they hold at least one of severity [Error], and the warnings as well.
type Findings []Finding

// Error returns one line per finding.
func (fs Findings) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Failed reports whether one of the findings is an error.
func (fs Findings) Failed() bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Severity == Error })
}

// sorted returns the findings in order, each once.
func (fs Findings) sorted() Findings {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(fs)
}
