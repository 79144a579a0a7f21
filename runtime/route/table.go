package route

import (
	"errors"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
)

// Rule is one route: messages for which When holds go to all ports in To.
type Rule struct {
	// Name is for people, and may be empty.
	Name string
	// When is a condition in CEL. Empty: it holds for every message.
	When string
	To   []string
}

// RuleError is what is wrong with one rule of a table.
type RuleError struct {
	Index int // from 0
	Err   error
}

func (e *RuleError) Error() string { return fmt.Sprintf("route %d: %v", e.Index+1, e.Err) }
func (e *RuleError) Unwrap() error { return e.Err }

// Table are routes, compiled. Safe for concurrent use.
type Table struct {
	rules []Rule
	when  []*expression // nil: always
}

// Compile checks the rules and makes them ready. The error is a *[RuleError], of the
// first rule that is wrong, and wraps an *[Error].
func Compile(rules []Rule) (*Table, error) {
	t := &Table{rules: slices.Clone(rules), when: make([]*expression, len(rules))}
	for i, r := range rules {
		if r.When == "" {
			continue
		}
		var err error
		if t.when[i], err = compile(r.When, cel.BoolType); err != nil {
			return nil, &RuleError{i, err}
		}
	}
	return t, nil
}

// CompileWhen checks one condition. Its errors are those of a rule.
func CompileWhen(text string) error {
	_, err := compile(text, cel.BoolType)
	return err
}

// Verdict is what one rule says to a message.
type Verdict struct {
	Rule
	Matched bool
	// Err says why the condition could not be answered: then it does not hold.
	Err error
}

// Route returns the ports that a message goes to: of every rule that holds, in the
// order of the rules, each once. A rule that asks for a property which the message
// has not does not hold. Any other error is returned, as a *[RuleError], and then
// nothing may be sent.
func (t *Table) Route(m Message) (to []string, err error) {
	for i := range t.rules {
		v := t.ask(i, m)
		if v.Err != nil && !errors.Is(v.Err, errMissing) {
			return nil, &RuleError{i, v.Err}
		}
		if !v.Matched {
			continue
		}
		for _, port := range v.To {
			if !slices.Contains(to, port) {
				to = append(to, port)
			}
		}
	}
	return to, nil
}

// Explain returns what each rule says.
func (t *Table) Explain(m Message) []Verdict {
	verdicts := make([]Verdict, len(t.rules))
	for i := range t.rules {
		verdicts[i] = t.ask(i, m)
	}
	return verdicts
}

func (t *Table) ask(i int, m Message) Verdict {
	v := Verdict{Rule: t.rules[i], Matched: true}
	if t.when[i] != nil {
		v.Matched, v.Err = t.when[i].matches(m)
	}
	return v
}

// Key is an expression that gives a text. Safe for concurrent use.
type Key struct{ e *expression }

// CompileKey checks an expression that gives a text, such as context["ftp.directory"].
// Errors are *[Error].
func CompileKey(text string) (*Key, error) {
	e, err := compile(text, cel.StringType)
	if err != nil {
		return nil, err
	}
	return &Key{e}, nil
}

// Of returns the text for a message, empty if it asks for a property which the
// message has not.
func (k *Key) Of(m Message) (string, error) {
	v, err := k.e.eval(m)
	switch {
	case errors.Is(err, errMissing):
		return "", nil
	case err != nil:
		return "", err
	}
	s, _ := v.Value().(string)
	return s, nil
}
