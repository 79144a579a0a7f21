package config

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxReferenced bounds the file behind a ${file:...}.
const maxReferenced = 64 << 10

// reference is one ${kind:argument} in a text, from start to end.
type reference struct {
	kind, argument string
	start, end     int
}

type referenceError struct{ problem, remedy string }

var (
	referenceKinds = []string{"env", "file", "secret"}
	variableName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// references returns the references of a text in order. "$${" is no reference
// but stands for "${".
func references(text string) ([]reference, *referenceError) {
	const forms = "write ${env:NAME} or ${file:/path}, or $${ for the two characters themselves"
	var out []reference
	for at := 0; ; {
		i := strings.Index(text[at:], "${")
		if i < 0 {
			return out, nil
		}
		start := at + i
		if start > 0 && text[start-1] == '$' {
			at = start + 2
			continue
		}
		n := strings.IndexByte(text[start:], '}')
		if n < 0 {
			return nil, &referenceError{"holds ${ without }", forms}
		}
		r := reference{start: start, end: start + n + 1}
		r.kind, r.argument, _ = strings.Cut(text[start+2:start+n], ":")
		if err := r.check(forms); err != nil {
			return nil, err
		}
		out, at = append(out, r), r.end
	}
}

func (r reference) check(forms string) *referenceError {
	switch {
	case !slices.Contains(referenceKinds, r.kind):
		// The text is not repeated: it may hold what was meant to be secret.
		return &referenceError{"holds a reference of an unknown kind", forms}
	case r.kind == "secret":
		return &referenceError{"${secret:...} is not served yet by this version", "write ${file:/path} or ${env:NAME}, with the file or variable on every node that may own the host"}
	case r.kind == "env" && !variableName.MatchString(r.argument):
		return &referenceError{"holds a reference to a variable that cannot exist", "write ${env:NAME} with letters, digits and underscores"}
	case r.kind == "file" && !filepath.IsAbs(r.argument):
		return &referenceError{"holds a reference to a file without its whole path", "write ${file:/path}, beginning with a slash"}
	}
	return nil
}

// Resolve replaces the references in an endpoint's properties by what this node
// holds, and returns the properties as JSON for the adapter. ${env:NAME} is the
// variable of the running process, ${file:/path} the content of a file of at most
// 64 KiB without one line break at its end; $${ becomes ${. What does not exist,
// or is empty, is an error; all of them are returned at once, and none contains a
// value. It reads files anew at every call and is safe for concurrent use.
func Resolve(ctx context.Context, properties map[string]any) ([]byte, error) {
	var errs []error
	resolved := resolveValue(ctx, properties, "", &errs)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	data, err := json.Marshal(resolved)
	if err != nil {
		return nil, errors.New("properties: a value cannot be written as JSON")
	}
	return data, nil
}

func resolveValue(ctx context.Context, v any, path string, errs *[]error) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range sortedKeys(v) {
			out[k] = resolveValue(ctx, v[k], strings.TrimPrefix(path+"."+k, "."), errs)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = resolveValue(ctx, item, path+"["+strconv.Itoa(i)+"]", errs)
		}
		return out
	case string:
		text, err := expand(ctx, v, true)
		if err == nil && !utf8.ValidString(text) {
			err = errors.New("what the reference leads to is not text in UTF-8")
		}
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s: %w", path, err))
		}
		return text
	default:
		return v
	}
}

// expand replaces the references of one text.
func expand(ctx context.Context, text string, trim bool) (string, error) {
	refs, bad := references(text)
	if bad != nil {
		return "", errors.New(bad.problem + "; " + bad.remedy)
	}
	var b strings.Builder
	at := 0
	for _, r := range refs {
		value, err := r.read(ctx)
		if err != nil {
			return "", err
		}
		if trim && r.kind == "file" {
			value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
		}
		if value == "" {
			return "", fmt.Errorf("${%s:%s} is empty on this node", r.kind, r.argument)
		}
		b.WriteString(strings.ReplaceAll(text[at:r.start], "$${", "${"))
		b.WriteString(value)
		at = r.end
	}
	b.WriteString(strings.ReplaceAll(text[at:], "$${", "${"))
	return b.String(), nil
}

func (r reference) read(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("resolve ${%s:%s}: %w", r.kind, r.argument, context.Cause(ctx))
	}
	if r.kind == "env" {
		value, ok := os.LookupEnv(r.argument)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set on this node; set it for the service", r.argument)
		}
		return value, nil
	}
	// A pipe would block, and a device never end.
	info, err := os.Stat(r.argument)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("file %s does not exist on this node", r.argument)
	case err != nil:
		return "", fmt.Errorf("file %s cannot be read: %s", r.argument, plainError(err))
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("file %s is not a regular file", r.argument)
	case info.Size() > maxReferenced:
		return "", fmt.Errorf("file %s is larger than 64 KiB", r.argument)
	}
	data, err := os.ReadFile(r.argument)
	if err != nil {
		return "", fmt.Errorf("file %s cannot be read: %s", r.argument, plainError(err))
	}
	return string(data), nil
}

// refuseReferences adds an error for every text that holds a reference where none
// is followed.
func (d *document) refuseReferences(v any, p keyPath, remedy, problem string) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			d.refuseReferences(item, p.with(k), remedy, problem)
		}
	case []any:
		for i, item := range v {
			d.refuseReferences(item, p.with(strconv.Itoa(i)), remedy, problem)
		}
	case string:
		if refs, bad := references(v); len(refs) > 0 || bad != nil {
			d.errorf(p, remedy, "%s", problem)
			d.suspect(p)
		}
	}
}

// decodeKey makes a gossip key of what was written: base64 if that gives a key's
// length, the bytes themselves otherwise.
func decodeKey(raw string) (string, bool) {
	fits := func(n int) bool { return n == 16 || n == 24 || n == 32 }
	text := strings.TrimRight(raw, "\r\n")
	if key, err := base64.StdEncoding.DecodeString(text); err == nil && fits(len(key)) {
		return string(key), true
	}
	if fits(len(text)) {
		return text, true
	}
	return raw, fits(len(raw))
}
