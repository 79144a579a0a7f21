package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReferencesAreResolved(t *testing.T) {
	t.Setenv("TEST_HOST", "queue.example")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("pass \"word\"\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Resolve(t.Context(), map[string]any{
		"broker":   "nats://${env:TEST_HOST}:4222/${env:TEST_HOST}",
		"password": "${file:" + secret + "}",
		"literal":  "$${env:TEST_HOST} costs 5$",
		"size":     int64(9007199254740993),
		"list":     []any{"${env:TEST_HOST}", true, nil},
		"section":  map[string]any{"a": "${env:TEST_HOST}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// One line break at the end is the editor's; the others belong to the secret.
	want := `{"broker":"nats://queue.example:4222/queue.example","list":["queue.example",true,null],"literal":"${env:TEST_HOST} costs 5$",` +
		`"password":"pass \"word\"\n","section":{"a":"queue.example"},"size":9007199254740993}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAllThatCannotBeResolvedIsSaidWithoutValues(t *testing.T) {
	dir := t.TempDir()
	binary, empty, big := filepath.Join(dir, "binary"), filepath.Join(dir, "empty"), filepath.Join(dir, "big")
	for path, content := range map[string]string{binary: "hunter2\xff", empty: "\n", big: strings.Repeat("x", maxReferenced+1)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TEST_EMPTY", "")
	_, err := Resolve(t.Context(), map[string]any{
		"a": "hunter2${env:TEST_NOT_SET}",
		"b": []any{"${file:/does/not/exist}"},
		"c": "${file:" + dir + "}",
		"d": "${file:" + binary + "}",
		"e": "${file:" + empty + "}",
		"f": "${file:" + big + "}",
		"g": "${env:TEST_EMPTY}",
		"h": "${secret:hunter2}",
		"i": "hunter2${",
	})
	if err == nil {
		t.Fatal("got no error")
	}
	got := strings.ReplaceAll(err.Error(), dir, "DIR")
	want := `a: environment variable TEST_NOT_SET is not set on this node; set it for the service
b[0]: file /does/not/exist does not exist on this node
c: file DIR is not a regular file
d: what the reference leads to is not text in UTF-8
e: ${file:DIR/empty} is empty on this node
f: file DIR/big is larger than 64 KiB
g: ${env:TEST_EMPTY} is empty on this node
h: ${secret:...} is not served yet by this version; write ${file:/path} or ${env:NAME}, with the file or variable on every node that may own the host
i: holds ${ without }; write ${env:NAME} or ${file:/path}, or $${ for the two characters themselves`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestResolvingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, map[string]any{"a": "${env:PATH}"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
}
