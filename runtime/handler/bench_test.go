package handler

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// startEcho starts role, an adapter that confirms what it has read, with window
// messages in flight, and returns the channel of its answers.
func startEcho(b *testing.B, role string, window int) (*Handler, <-chan *adapterpb.Sent) {
	b.Helper()
	s, _, _ := spec(b, role)
	s.Endpoints = []*adapterpb.Endpoint{{Name: "erp", Properties: []byte(`{}`), MaxInFlight: int32(window)}}
	answers := make(chan *adapterpb.Sent, window)
	s.Receive = func(m *adapterpb.FromAdapter) {
		if sent := m.GetSent(); sent != nil {
			answers <- sent
		}
	}
	return start(b, s), answers
}

// flow sends b.N messages and keeps window of them in flight.
func flow(b *testing.B, role string, window int, content func() *adapterpb.Part) {
	h, answers := startEcho(b, role, window)
	ctx, inFlight := context.Background(), 0
	take := func() {
		if a := <-answers; a.GetError() != nil {
			b.Fatal(a.GetError().GetText())
		}
		inFlight--
	}
	for b.Loop() {
		m := sendMessage(1)
		m.GetSend().GetMessage().Parts[0] = content()
		if err := h.Send(ctx, m); err != nil {
			b.Fatal(err)
		}
		if inFlight++; inFlight == window {
			take()
		}
	}
	for inFlight > 0 {
		take()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func inline(n int) func() *adapterpb.Part {
	data := bytes.Repeat([]byte{'x'}, n)
	return func() *adapterpb.Part {
		return &adapterpb.Part{Size: int64(n), Content: &adapterpb.Part_Inline{Inline: data}}
	}
}

// The boundary: 1 KiB messages with an answer each, to a sink of the SDK and to an
// adapter that answers straight from its stream.
func BenchmarkMessages(b *testing.B) {
	for _, role := range []string{"echo", "good"} {
		for _, window := range []int{256, 32, 1} {
			b.Run(fmt.Sprintf("%s/window=%d", role, window), func(b *testing.B) {
				flow(b, role, window, inline(1<<10))
			})
		}
	}
}

// Content as bytes over the stream.
func BenchmarkInlineContent(b *testing.B) {
	b.SetBytes(64 << 10)
	flow(b, "echo", 16, inline(64<<10))
}

// Content in a file: written here, read there.
func BenchmarkSpooledContent(b *testing.B) {
	const size = 16 << 20
	dir, n := b.TempDir(), 0
	data := bytes.Repeat([]byte{'x'}, 256<<10)
	b.SetBytes(size)
	flow(b, "echo", 2, func() *adapterpb.Part {
		path := filepath.Join(dir, fmt.Sprint(n%4)) // more files than are in flight
		n++
		f, err := os.Create(path)
		for w := 0; w < size && err == nil; w += len(data) {
			_, err = f.Write(data)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
		return &adapterpb.Part{Size: size, Content: &adapterpb.Part_Spooled{Spooled: path}}
	})
}

// From nothing to Ready, and back.
func BenchmarkLaunch(b *testing.B) {
	s, _, _ := spec(b, "echo")
	for b.Loop() {
		h, err := Start(context.Background(), s)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Stop(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// What a host waits for when it is started: from nothing to Ready, and from a
// prepared process to Ready.
func BenchmarkStart(b *testing.B) {
	for _, kind := range []string{"cold", "prepared"} {
		b.Run(kind, func(b *testing.B) {
			s, _, _ := spec(b, "echo")
			s.Endpoints = []*adapterpb.Endpoint{{Name: "erp", Properties: []byte(`{}`), MaxInFlight: 1}}
			for b.Loop() {
				b.StopTimer()
				if kind == "prepared" {
					s.Prepared = prepare(b, s)
				}
				b.StartTimer()
				h, err := Start(context.Background(), s)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := h.Stop(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
