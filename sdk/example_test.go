package sdk_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// outboxProperties stand in a deployment under `endpoint:`.
type outboxProperties struct {
	Directory string       `json:"directory" jsonschema:"required" jsonschema_description:"Absolute path of the folder."`
	StableFor sdk.Duration `json:"stable_for" jsonschema:"default=2s" jsonschema_description:"How long a file must stay as it is before it is taken."`
}

// Validate finds what the tags cannot say.
func (p outboxProperties) Validate() error {
	if !filepath.IsAbs(p.Directory) {
		return &sdk.PropertyError{Property: "directory", Problem: "is not an absolute path"}
	}
	return nil
}

// outbox takes the files of a folder, and puts files into one.
var outbox = sdk.Adapter{
	Name:    "outbox",
	Version: "1.0.0",
	Summary: "Takes the files of a folder, and puts files into one.",
	Receive: sdk.Polled(func(_ context.Context, p outboxProperties, _ sdk.Env) (sdk.PolledSource, error) {
		return outboxFolder{p}, nil
	}, sdk.Exclusive()),
	Send: sdk.Sends(func(_ context.Context, p outboxProperties, _ sdk.Env) (sdk.Sink, error) {
		return outboxFolder{p}, nil
	}, sdk.Probes()),
}

type outboxFolder struct{ outboxProperties }

func (f outboxFolder) path(name string) string { return filepath.Join(f.Directory, name) }

// List implements sdk.PolledSource.
func (f outboxFolder) List(context.Context) ([]sdk.Item, error) {
	files, err := os.ReadDir(f.Directory)
	if err != nil {
		return nil, sdk.Disconnected(err)
	}
	var items []sdk.Item
	for _, file := range files {
		info, err := file.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, sdk.Item{
			Key: outboxKey(info), Size: info.Size(), StableFor: f.StableFor.D(),
			Handle: file.Name(), Context: map[string]string{"file.name": file.Name()},
		})
	}
	return items, nil
}

// outboxKey changes with the file.
func outboxKey(info fs.FileInfo) string {
	return fmt.Sprintf("%s|%d|%s", info.Name(), info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
}

// Open implements sdk.PolledSource.
func (f outboxFolder) Open(_ context.Context, item sdk.Item) (*sdk.Content, error) {
	file, err := os.Open(f.path(item.Handle.(string)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sdk.Gone(err)
	}
	if err != nil {
		return nil, err
	}
	return sdk.Body(file), nil
}

// Settle implements sdk.PolledSource: it looks at the file again and deletes it.
func (f outboxFolder) Settle(_ context.Context, item sdk.Item) error {
	path := f.path(item.Handle.(string))
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && outboxKey(info) != item.Key {
		return sdk.Gone(fmt.Errorf("%s is not the file that was read", path))
	}
	return cmp.Or(err, os.Remove(path))
}

// Send implements sdk.Sink: the file appears whole or not at all, and under a name
// that is the same at every attempt.
func (f outboxFolder) Send(_ context.Context, m *sdk.Message) error {
	body, err := m.Body().Open()
	if err != nil {
		return err
	}
	defer body.Close()
	temporary, err := os.Create(f.path("." + m.ID))
	if err != nil {
		return sdk.Disconnected(err)
	}
	_, err = io.Copy(temporary, body)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), f.path(m.ID))
}

// Probe implements sdk.Prober: what has its final name has arrived.
func (f outboxFolder) Probe(_ context.Context, m *sdk.Message) (sdk.Arrival, error) {
	_, err := os.Stat(f.path(m.ID))
	switch {
	case err == nil:
		return sdk.Arrived, nil
	case errors.Is(err, fs.ErrNotExist):
		return sdk.Absent, nil
	}
	return sdk.Unknown, err
}

// Close implements sdk.PolledSource and sdk.Sink.
func (f outboxFolder) Close() error { return nil }

// A whole adapter. Its binary, fairlead-adapter-outbox, has one more line:
//
//	func main() { sdk.Serve(outbox) }
func Example() {
	p, err := sdk.DecodeProperties[outboxProperties]([]byte(`{"directory": "/srv/outbox"}`))
	fmt.Println(outbox.Name, p.Directory, p.StableFor, err)
	_, err = sdk.DecodeProperties[outboxProperties]([]byte(`{"directory": "outbox"}`))
	fmt.Println(err)
	// Output:
	// outbox /srv/outbox 2s <nil>
	// directory: is not an absolute path
}
