package files

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // for receivers that know no other
	"crypto/sha1" //nolint:gosec // for servers that know no other
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/fairlead-io/fairlead/sdk"
)

// Checksums: the values of the property checksum, and two that only servers use.
const (
	SumNone   = "none"
	SumSHA256 = "sha256"
	SumSHA512 = "sha512"
	SumMD5    = "md5"
	SumSHA1   = "sha1"
	SumCRC32  = "crc32"
	// sidecarMax is the longest suffix of a checksum file.
	sidecarMax = len(".sha512")
)

var hashes = map[string]func() hash.Hash{
	SumSHA256: sha256.New, SumSHA512: sha512.New,
	SumMD5:   md5.New,
	SumSHA1:  sha1.New,
	SumCRC32: func() hash.Hash { return crc32.NewIEEE() },
}

// Sums takes the checksums of one content that is written to it. SHA-256 is always one
// of them, as messages know theirs.
type Sums struct {
	size int64
	by   map[string]hash.Hash
}

// NewSums takes the named checksums besides SHA-256; "" and "none" are none.
func NewSums(algorithms ...string) *Sums {
	s := &Sums{by: map[string]hash.Hash{SumSHA256: sha256.New()}}
	for _, a := range algorithms {
		if make := hashes[a]; make != nil && s.by[a] == nil {
			s.by[a] = make()
		}
	}
	return s
}

// Write implements io.Writer; it never fails.
func (s *Sums) Write(p []byte) (int, error) {
	for _, h := range s.by {
		h.Write(p)
	}
	s.size += int64(len(p))
	return len(p), nil
}

// Size is how much was written.
func (s *Sums) Size() int64 { return s.size }

// Sum is the checksum of what was written, nil for one that was not asked for.
func (s *Sums) Sum(algorithm string) []byte {
	if h := s.by[algorithm]; h != nil {
		return h.Sum(nil)
	}
	return nil
}

// Check compares what was written with what the message says of the part.
func (s *Sums) Check(part *sdk.MessagePart) error {
	if s.size != part.Size {
		return fmt.Errorf("content has %d bytes and should have %d", s.size, part.Size)
	}
	if len(part.SHA256) == sha256.Size && !bytes.Equal(s.Sum(SumSHA256), part.SHA256) {
		return fmt.Errorf("content of %d bytes is damaged: its checksum is wrong", s.size)
	}
	return nil
}

// CheckContent reads a part's content and compares it with what the message says of it:
// before the first byte goes to where it cannot be taken back. Its errors are
// [sdk.Permanent] if the content is not the one it should be, else [sdk.Disconnected].
func CheckContent(part *sdk.MessagePart) error {
	content, err := part.Open()
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("open content: %w", err))
	}
	defer content.Close()
	sums := NewSums()
	if _, err := io.Copy(sums, content); err != nil {
		return sdk.Disconnected(fmt.Errorf("read content: %w", err))
	}
	return sdk.Permanent(sums.Check(part))
}

// SidecarName is the name of the file that holds the checksum of the file of this name,
// "" if there is to be none.
func (p Placement) SidecarName(name string) string {
	if p.Checksum == "" || p.Checksum == SumNone {
		return ""
	}
	return name + "." + p.Checksum
}

// Sidecar is the content of that file, as sha256sum and its kin write and check it
// (final names have no characters that they would escape).
func (p Placement) Sidecar(name string, sums *Sums) []byte {
	return fmt.Appendf(nil, "%s  %s\n", hex.EncodeToString(sums.Sum(p.Checksum)), name)
}
