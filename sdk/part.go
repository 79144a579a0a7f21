package sdk

import (
	"bytes"
	"io"
	"os"
)

func (p *MessagePart) open() (io.ReadCloser, error) {
	if p.path == "" {
		return io.NopCloser(bytes.NewReader(p.inline)), nil
	}
	return os.Open(p.path)
}

// InlinePart returns a part that holds its content in memory, for tests of sinks.
func InlinePart(name, contentType string, data []byte) MessagePart {
	return MessagePart{Name: name, ContentType: contentType, Size: int64(len(data)), inline: data}
}
