package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// How an upload is compared with the content: the values of the property verify.
const (
	verifySize = "size"
	verifyHash = "hash"
	verifyAuto = "auto"
)

// hashCommand is a way to have the server take a checksum of a file.
type hashCommand struct {
	sum string // as sdk/files calls it
	// feature is the command's name in FEAT, or the algorithm's in the line HASH.
	feature string
	draft   bool // the command HASH of draft-bryan-ftpext-hash
}

// hashCommands are all that we know, strongest first. proof says how many of them are
// strong enough to prove that a file is the message's; the others tell a damaged
// transfer well enough.
var hashCommands = []hashCommand{
	{files.SumSHA256, "SHA-256", true}, {files.SumSHA256, "XSHA256", false},
	{files.SumSHA512, "SHA-512", true}, {files.SumSHA512, "XSHA512", false},
	{files.SumSHA1, "SHA-1", true}, {files.SumSHA1, "XSHA1", false}, {files.SumSHA1, "XSHA", false},
	{files.SumMD5, "MD5", true}, {files.SumMD5, "XMD5", false},
	{files.SumCRC32, "CRC32", true}, {files.SumCRC32, "XCRC", false},
}

const proof = 4

func (f features) offers(h hashCommand) bool {
	if !h.draft {
		return f.has(h.feature)
	}
	for _, a := range strings.Split(f["HASH"], ";") {
		if strings.TrimSuffix(strings.TrimSpace(a), "*") == h.feature {
			return true
		}
	}
	return false
}

// hashCommand picks the strongest of those that the server has, nil if there is none.
func (k *sink) hashCommand(c *session, among []hashCommand) (*hashCommand, error) {
	offered, err := k.features.of(c)
	if err != nil {
		return nil, err
	}
	for _, h := range among {
		if offered.offers(h) {
			return &h, nil
		}
	}
	return nil, nil
}

// verifier is how the next upload is verified, nil by its size alone. One that was
// resumed is always verified by its checksum where the server takes any: what was there
// is not of this connection.
func (k *sink) verifier(c *session, resumed bool) (*hashCommand, error) {
	if k.props.Verify == verifySize && !resumed {
		return nil, nil
	}
	if k.noHash.Load() && k.props.Verify != verifyHash {
		return nil, nil
	}
	h, err := k.hashCommand(c, hashCommands)
	if err == nil && h == nil && k.props.Verify == verifyHash {
		err = found("the server takes no checksum of files (it offers neither HASH nor XSHA256 and its kin); set verify: auto or size")
	}
	return h, err
}

// verify compares the upload with the content that was sent.
func (k *sink) verify(c *session, h *hashCommand, path string, sums *files.Sums) error {
	got, err := k.serverSum(c, h, path)
	if err != nil && isRefusal(err) && k.props.Verify != verifyHash {
		k.noSums.Do(func() {
			k.env.Log.Warn("the server offers checksums of files and refuses them; uploads are verified by their size", "error", err)
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the server for the checksum: %w", err)
	}
	if want := sums.Sum(h.sum); !bytes.Equal(got, want) {
		return spoiled("the file at the server is damaged: its %s is %x and should be %x", h.sum, got, want)
	}
	return nil
}

// serverSum has the server take the checksum of a file.
func (k *sink) serverSum(c *session, h *hashCommand, path string) (sum []byte, err error) {
	// It may take the server long to read a large file. One that has not answered in time
	// will not do so the next time either.
	defer func() {
		if errors.Is(err, os.ErrDeadlineExceeded) && !k.noHash.Swap(true) {
			k.env.Log.Warn("the server took longer for the checksum of a file than timeout allows; it is not asked again", "error", err)
		}
	}()
	if h.draft {
		if _, _, err := c.command("OPTS HASH %s", h.feature); err != nil {
			return nil, err
		}
		_, text, err := c.command("HASH %s", path)
		if err != nil {
			return nil, err
		}
		return readDraftSum(text, h.feature)
	}
	if strings.Contains(path, " ") {
		path = `"` + path + `"` // a start and an end may follow the name
	}
	_, text, err := c.command("%s %s", h.feature, path)
	if err != nil {
		return nil, err
	}
	return readSum(text, sumSize(h.sum))
}

// readDraftSum reads a reply such as "SHA-256 0-49 HEX name".
func readDraftSum(text, algorithm string) ([]byte, error) {
	words := strings.Fields(text)
	for i := range words {
		if strings.EqualFold(words[i], algorithm) && i+2 < len(words) {
			if sum, err := hex.DecodeString(words[i+2]); err == nil {
				return sum, nil
			}
		}
	}
	return nil, found("no checksum in the reply %q", text)
}

// readSum finds a checksum of the size in a reply of no fixed form: it is a word by
// itself. Names of temporary files are none.
func readSum(text string, size int) ([]byte, error) {
	for _, word := range strings.Fields(text) {
		if sum, err := hex.DecodeString(strings.Trim(word, ".,;=\"'")); err == nil && len(sum) == size {
			return sum, nil
		}
	}
	return nil, found("no checksum in the reply %q", text)
}

func sumSize(sum string) int { return len(files.NewSums(sum).Sum(sum)) }
