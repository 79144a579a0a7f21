package main

import (
	"slices"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/popd"
	"github.com/fairlead-io/fairlead/plugins/internal/mail/mailtest"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

func TestConformance(t *testing.T) {
	for _, c := range []struct{ content, after string }{{"raw", "delete"}, {"parts", "delete"}, {"raw", "keep"}} {
		t.Run(c.content+" "+c.after, func(t *testing.T) {
			adaptertest.Source(t, adaptertest.SourceCase{
				Adapter: adapter(),
				New: func(t testing.TB) adaptertest.SourceFixture {
					server := startServer(t, popd.Config{})
					return adaptertest.SourceFixture{
						Properties: with(server.props, "content", c.content, "after_delivery", c.after),
						Put:        func(_ testing.TB, name string, content []byte) { server.Deliver(mailtest.Compose(name, content)) },
						Remaining: func(testing.TB) []string {
							var names []string
							for _, m := range server.Mails() {
								names = append(names, mailtest.Name(m))
							}
							return names
						},
						Down: func(testing.TB) { server.Down() },
						Up: func(t testing.TB) {
							if err := server.Up(); err != nil {
								t.Fatal(err)
							}
						},
					}
				},
				NameProperty: "mail.subject",
				Kept:         c.after == "keep",
				Content:      contentOf(c.content),
				PollEvery:    50 * time.Millisecond,
				Timeout:      30 * time.Second,
			})
		})
	}
}

// contentOf finds what mailtest.Compose put into a mail.
func contentOf(mode string) func(testing.TB, []adaptertest.Part) []byte {
	return func(t testing.TB, parts []adaptertest.Part) []byte {
		if len(parts) != 1 {
			t.Fatalf("%d parts, want 1", len(parts))
		}
		if mode == "parts" {
			return parts[0].Content
		}
		content, err := mailtest.Content(parts[0].Content)
		if err != nil {
			t.Fatalf("delivered mail: %v", err)
		}
		return slices.Clip(content)
	}
}
