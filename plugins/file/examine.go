package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Examine implements [sdk.Examiner].
func (s *source) Examine(ctx context.Context, x *sdk.Examination) error {
	items, err := s.filter.Examine(ctx, x, "file", s.List)
	if err != nil {
		return err
	}
	writes := s.p.AfterDelivery != files.AfterKeep
	examineRights(x, s.p.Directory, writes)
	if s.p.AfterDelivery == files.AfterMove {
		x.Step("move_to", s.p.Archive(s.p.Directory)+" is used, and made when missing")
	}
	for _, item := range items[:min(len(items), readable)] {
		f, ok := item.Handle.(found)
		if !ok {
			return fmt.Errorf("the item %s is not one of this location's listing", item.Key)
		}
		if err := mayRead(s.abs(f.at)); err != nil {
			x.Warn("%s cannot be read: %v", readableName(f.name), err)
		}
	}
	return nil
}

// readable is how many of the files that would be taken are asked for being readable.
const readable = 100

// Examine implements [sdk.Examiner].
func (s *sink) Examine(_ context.Context, x *sdk.Examination) error {
	err := reachable(s.base, s.p.Marker)
	if errors.Is(err, fs.ErrNotExist) && s.p.Marker == "" && s.p.CreateDirectories {
		x.Step("directory", s.base+" is not there; it would be made")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, remedy(err))
	}
	x.Step("directory", s.base+" is there")
	examineRights(x, s.base, true)
	return files.WriteTest(x, s.base, s.base, func(path string) error {
		return os.WriteFile(path, []byte("test\n"), 0o600)
	}, os.Rename, os.Remove)
}

func examineRights(x *sdk.Examination, dir string, writes bool) {
	if err := mayWrite(dir); writes && err != nil {
		x.Warn("this user may not write to %s: %v", dir, err)
	} else if writes {
		x.Step("rights", "this user may write to "+dir)
	}
}
