package files

import (
	"context"
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
