package main

import (
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/fairlead-io/fairlead/plugins/internal/mail/mailtest"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

func TestConformance(t *testing.T) {
	for _, c := range []struct{ content, after string }{{"raw", "delete"}, {"parts", "mark"}, {"raw", "keep"}} {
		t.Run(c.content+" "+c.after, func(t *testing.T) {
			adaptertest.Source(t, adaptertest.SourceCase{
				Adapter: adapter(),
				New: func(t testing.TB) adaptertest.SourceFixture {
					server := startServer(t, imap.CapUIDPlus, imap.CapSASLIR)
					return adaptertest.SourceFixture{
						Properties: with(server.props, "content", c.content, "after_delivery", c.after),
						Put: func(t testing.TB, name string, content []byte) {
							server.deliver(t, mailtest.Compose(name, content))
						},
						Remaining: func(t testing.TB) []string {
							var names []string
							for _, m := range server.mails(t) {
								if !hasFlag(m.flags, imap.FlagSeen) {
									names = append(names, mailtest.Name(m.content))
								}
							}
							return names
						},
						Down: func(testing.TB) { server.down() },
						Up:   func(t testing.TB) { server.up(t) },
					}
				},
				NameProperty: "mail.subject",
				Kept:         c.after == "keep",
				Content: func(t testing.TB, parts []adaptertest.Part) []byte {
					if len(parts) != 1 {
						t.Fatalf("%d parts, want 1", len(parts))
					}
					if c.content == "parts" {
						return parts[0].Content
					}
					content, err := mailtest.Content(parts[0].Content)
					if err != nil {
						t.Fatalf("delivered mail: %v", err)
					}
					return content
				},
				PollEvery: 50 * time.Millisecond,
				Timeout:   30 * time.Second,
			})
		})
	}
}
