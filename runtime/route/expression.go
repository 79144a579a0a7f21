package route

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

const (
	// MaxExpression bounds an expression, in bytes.
	MaxExpression = 4 << 10
	// maxCost bounds the work of one expression for one message, in CEL's own unit:
	// about one operation, or ten characters looked at. It is well below a millisecond.
	maxCost = 100_000
	// Sizes that the estimate at compile time reckons with.
	maxProperties, maxValue = 200, 8 << 10
)

// Message is what expressions see of a message.
type Message struct {
	Location, Adapter string
	// Context are its properties, such as "ftp.name".
	Context map[string]string
}

// Error is what is wrong with an expression.
type Error struct {
	// Line and Column say where in the expression, counted from 1; 0 where it concerns
	// all of it.
	Line, Column int
	Problem      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	if e.Line == 1 {
		return fmt.Sprintf("column %d: %s", e.Column, e.Problem)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// errMissing: the expression asks for a property that the message has not.
var errMissing = errors.New("the message has no such property")

// language is made once: that takes some milliseconds.
var language = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("location", cel.StringType), cel.Variable("adapter", cel.StringType),
		cel.Variable("context", cel.MapType(cel.StringType, cel.StringType)),
		ext.Strings(),
	)
})

// variables are the names that expressions may use.
const variables = "location, adapter, context"

// expression is one that was compiled. Safe for concurrent use.
type expression struct{ program cel.Program }

// compile checks an expression that is to give that type.
func compile(text string, want *cel.Type) (*expression, error) {
	switch {
	case len(text) > MaxExpression:
		return nil, &Error{Problem: fmt.Sprintf("has %d bytes, at most %d are possible", len(text), MaxExpression)}
	case strings.TrimSpace(text) == "":
		return nil, &Error{Problem: "is empty"}
	}
	env, err := language()
	if err != nil {
		return nil, fmt.Errorf("make the language of routes: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, firstError(issues)
	}
	if !ast.OutputType().IsExactType(want) {
		return nil, &Error{Problem: fmt.Sprintf("gives %s, want %s, such as %s", ast.OutputType(), want, examples[want.String()])}
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, &Error{Problem: "its cost cannot be told: " + err.Error()}
	}
	if estimate.Min > maxCost {
		return nil, &Error{Problem: fmt.Sprintf("takes too much work for a single message (%d, at most %d); make it simpler", estimate.Min, maxCost)}
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, &Error{Problem: err.Error()}
	}
	return &expression{program}, nil
}

var examples = map[string]string{
	"bool":   `location == "orders"`,
	"string": `context["ftp.directory"]`,
}

// firstError is the first of the compiler's errors, in words.
func firstError(issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return &Error{Problem: issues.Err().Error()}
	}
	problem := all[0].Message
	if name, ok := strings.CutPrefix(problem, "undeclared reference to '"); ok {
		name, _, _ = strings.Cut(name, "'")
		problem = fmt.Sprintf("there is no %q; known are %s; a property is written as context[%q]", name, variables, "ftp.name")
	}
	return &Error{Line: all[0].Location.Line(), Column: all[0].Location.Column() + 1, Problem: problem}
}

// eval asks for one message. The error is errMissing, or says what went wrong.
func (e *expression) eval(m Message) (ref.Val, error) {
	context := m.Context
	if context == nil {
		context = map[string]string{}
	}
	v, _, err := e.program.Eval(map[string]any{"location": m.Location, "adapter": m.Adapter, "context": context})
	switch {
	case err == nil:
		return v, nil
	case strings.HasPrefix(err.Error(), "no such key"):
		return nil, fmt.Errorf("%w (%s)", errMissing, strings.TrimPrefix(err.Error(), "no such key: "))
	case strings.Contains(err.Error(), "cost limit exceeded"):
		return nil, errors.New("takes too much work for this message; make it simpler")
	}
	return nil, err
}

func (e *expression) matches(m Message) (bool, error) {
	v, err := e.eval(m)
	return v == types.True, err
}

// sizes tells the estimate how large things may be.
type sizes struct{ cost.Estimator }

func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if path := node.Path(); len(path) > 0 && path[0] == "context" && len(path) == 1 {
		return &cost.SizeEstimate{Min: 0, Max: maxProperties}
	}
	return &cost.SizeEstimate{Min: 0, Max: maxValue}
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
