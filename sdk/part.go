package sdk

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
)

// open reads from memory or from the runtime's spool.
func (p *MessagePart) open() (io.ReadCloser, error) {
	if p.path == "" {
		return io.NopCloser(bytes.NewReader(p.inline)), nil
	}
	return os.Open(p.path)
}

// InlinePart returns a part that holds its content in memory, for tests of sinks.
func InlinePart(name, contentType string, data []byte) MessagePart {
	sum := sha256.Sum256(data)
	return MessagePart{Name: name, ContentType: contentType, Size: int64(len(data)), SHA256: sum[:], inline: data}
}
