package sdk

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// problems are the findings of a check, one per joined error. What stands as a
// reference (${...}) cannot be judged before it is resolved: findings about such
// properties are left out.
func problems(properties []byte, err error) []*adapterpb.CheckResponse_Problem {
	var raw map[string]json.RawMessage
	_ = json.Unmarshal(properties, &raw) // if it is no object, err says so
	var out []*adapterpb.CheckResponse_Problem
	for _, err := range flatten(err) {
		p := &adapterpb.CheckResponse_Problem{Problem: errorText(err)}
		var of *PropertyError
		if errors.As(err, &of) {
			p.Property, p.Problem = of.Property, of.Problem
		}
		top, _, _ := strings.Cut(p.GetProperty(), ".")
		if !strings.Contains(string(raw[top]), "${") {
			out = append(out, p)
		}
	}
	return out
}

// flatten takes apart what errors.Join has joined, and nothing else: an error that
// wraps several in one sentence stays one.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || reflect.TypeOf(err) != reflect.TypeOf(errors.Join(err)) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// nearest returns the candidate that name was probably meant to be, or "".
func nearest(name string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(name)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
