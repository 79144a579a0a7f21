package files

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// Examine notes in x what a source would take of what list returns, in its order, and
// what the filter says of the others. prefix is that of the items' context properties,
// such as ftp. It returns the items.
//
// Call it in [sdk.Examiner] alone: from then on the filter remembers all that it rejects.
func (f *Filter) Examine(ctx context.Context, x *sdk.Examination, prefix string, list func(context.Context) ([]sdk.Item, error)) ([]sdk.Item, error) {
	seen := map[string]bool{} // a directory may be listed twice
	f.told = func(name, reason string) {
		if !seen[name] {
			seen[name] = true
			x.Reject(name, reason)
		}
	}
	items, err := list(ctx)
	if err != nil {
		return nil, err
	}
	x.Step("list", fmt.Sprintf("%d of %d files would be taken", len(items), len(items)+len(seen)))
	held := time.Duration(0)
	for _, item := range items {
		modified, _ := time.Parse(time.RFC3339Nano, item.Context[prefix+".modified"])
		x.Take(item.Context[prefix+".path"], item.Size, modified)
		held = max(held, item.StableFor)
	}
	if held > 0 {
		x.Warn("each file is held back until it has not changed for %v (stable_for)", held)
	}
	return items, nil
}

// Skip tells who examines the source of an entry that is never taken, and why: it is no
// file, say.
func (f *Filter) Skip(name, reason string) { f.tell(name, reason) }

// tell notes what is rejected, if somebody wants to know, and returns the reason.
func (f *Filter) tell(name, reason string) string {
	if f.told != nil && reason != "" {
		f.told(name, reason)
	}
	return reason
}

// Fixed is the part of a directory's path before the first element with a placeholder,
// which can be looked at without a message.
func Fixed(directory sdk.Template) string {
	fixed, _, varies := strings.Cut(directory.String(), "{{")
	if varies {
		fixed = fixed[:strings.LastIndex(fixed, "/")+1]
	}
	return path.Clean(fixed)
}

// WriteTest writes a small file to the directory of uploads, renames it into the final
// one and removes it, if the operator allows that. The functions get paths. Both names
// are those of files that are being written, which no receive location takes.
func WriteTest(x *sdk.Examination, uploads, final string, write func(path string) error, rename func(from, to string) error, remove func(path string) error) error {
	if !x.WriteTest() {
		return nil
	}
	from, to := path.Join(uploads, AttemptName("write-test")), path.Join(final, AttemptName("write-test"))
	if err := write(from); err != nil {
		return fmt.Errorf("write test: write %s: %w", from, err)
	}
	if err := rename(from, to); err != nil {
		return errors.Join(fmt.Errorf("write test: rename %s to %s: %w", from, to, err), remove(from))
	}
	if err := remove(to); err != nil {
		x.Warn("the write test's file %s stays behind, since it cannot be removed: %v", to, err)
	}
	x.Step("write test", fmt.Sprintf("wrote %s, renamed it to %s, removed it", from, to))
	return nil
}
