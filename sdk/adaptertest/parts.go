package adaptertest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// readPart reads what the adapter delivered and holds it against what it said.
func readPart(t testing.TB, p *adapterpb.Part) Part {
	t.Helper()
	out := Part{Name: p.GetName(), ContentType: p.GetContentType(), Content: p.GetInline()}
	if path := p.GetSpooled(); path != "" {
		out.Spooled = true
		info, err := os.Stat(path)
		if err != nil {
			t.Fatalf("spooled part: %v", err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("spooled part has mode %o, want 600", info.Mode().Perm())
		}
		if out.Content, err = os.ReadFile(path); err != nil {
			t.Fatalf("spooled part: %v", err)
		}
	}
	if int64(len(out.Content)) != p.GetSize() {
		t.Errorf("part %q has %d bytes and says %d", p.GetName(), len(out.Content), p.GetSize())
	}
	if sum := sha256.Sum256(out.Content); !bytes.Equal(sum[:], p.GetSha256()) {
		t.Errorf("part %q: checksum does not fit the content", p.GetName())
	}
	return out
}

// message makes what the runtime would send: large parts lie in the spool.
func (h *Handler) message(m Message) *adapterpb.Message {
	h.t.Helper()
	out := &adapterpb.Message{Id: m.ID, Context: m.Context, Redelivered: m.Redelivered}
	for _, p := range m.Parts {
		sum := sha256.Sum256(p.Content)
		part := &adapterpb.Part{Name: p.Name, ContentType: p.ContentType, Size: int64(len(p.Content)), Sha256: sum[:]}
		if len(p.Content) <= inlineMax && !p.Spooled {
			part.Content = &adapterpb.Part_Inline{Inline: p.Content}
		} else {
			path := filepath.Join(h.spool, fmt.Sprintf("out-%d", h.number()))
			if err := os.WriteFile(path, p.Content, 0o600); err != nil {
				h.t.Fatalf("spool: %v", err)
			}
			part.Content = &adapterpb.Part_Spooled{Spooled: path}
		}
		out.Parts = append(out.Parts, part)
	}
	return out
}
