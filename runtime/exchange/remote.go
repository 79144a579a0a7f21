package exchange

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// chunkSize is how much content goes into one message between nodes.
const chunkSize = 128 << 10

// SendRemote sends the message through a port that runs on the node behind the
// client, or asks there whether it has arrived.
func SendRemote(ctx context.Context, client peerpb.PeerClient, t Tenure, port string, m *Message, probe bool) (adapterpb.Arrival, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Deliver(ctx)
	if err != nil {
		return 0, Unreachable("send port %s: %v", port, err)
	}
	err = sendContent(stream, t, port, m, probe)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("send port %s: %w: %w", port, ErrInterrupted, err)
	}
	reply, err := stream.CloseAndRecv() // after io.EOF this has the reason
	if err != nil {
		return 0, fmt.Errorf("send port %s: %w: %w", port, ErrInterrupted, err)
	}
	if e := reply.GetError(); e != nil {
		if reply.GetInterrupted() {
			return 0, fmt.Errorf("%s: %w", e.GetText(), ErrInterrupted)
		}
		return 0, fromWire(e)
	}
	return reply.GetArrival(), nil
}

func sendContent(stream peerpb.Peer_DeliverClient, t Tenure, port string, m *Message, probe bool) error {
	head := proto.CloneOf(m)
	for _, p := range head.GetParts() {
		p.Content = nil
	}
	err := stream.Send(&peerpb.DeliverRequest{Kind: &peerpb.DeliverRequest_Head_{Head: &peerpb.DeliverRequest_Head{
		Port: port, Message: head, Probe: probe, Group: t.Group, Incarnation: t.Incarnation, Epoch: t.Epoch,
	}}})
	if err != nil {
		return err
	}
	for i, p := range m.GetParts() {
		if err := sendPart(stream, i, p); err != nil {
			return err
		}
	}
	return nil
}

func sendPart(stream peerpb.Peer_DeliverClient, i int, p *adapterpb.Part) error {
	chunk := func(data []byte) error {
		return stream.Send(&peerpb.DeliverRequest{Kind: &peerpb.DeliverRequest_Chunk_{
			Chunk: &peerpb.DeliverRequest_Chunk{Part: int32(i), Data: data},
		}})
	}
	inline, ok := p.GetContent().(*adapterpb.Part_Inline)
	if ok {
		for data := inline.Inline; len(data) > 0; {
			n := min(len(data), chunkSize)
			if err := chunk(data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		return nil
	}
	f, err := os.Open(p.GetSpooled())
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	buf := make([]byte, chunkSize)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := chunk(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
}

// Serve answers one Deliver call of another node with the ports of this one. admit
// says whether the caller may act and whether the port is to run here.
func (p *Ports) Serve(stream peerpb.Peer_DeliverServer, spool *Spool, admit func(*peerpb.DeliverRequest_Head) error) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	head := first.GetHead()
	if head == nil {
		return errors.New("deliver: the first message is not the head")
	}
	if err := admit(head); err != nil {
		return stream.SendAndClose(reply(0, err))
	}
	m := head.GetMessage()
	room, err := spool.reserve(ctx, spooledBytes(m), func() {})
	if err != nil {
		return err
	}
	defer room.free()
	if err := receiveContent(stream, m, room); err != nil {
		// Nothing has gone out yet.
		return stream.SendAndClose(reply(0, Unreachable("content from the other node: %v", err)))
	}
	if head.GetProbe() {
		arrival, err := p.Probe(ctx, head.GetPort(), m)
		return stream.SendAndClose(reply(arrival, err))
	}
	return stream.SendAndClose(reply(0, p.Send(ctx, head.GetPort(), m)))
}

func reply(a adapterpb.Arrival, err error) *peerpb.DeliverReply {
	return &peerpb.DeliverReply{Arrival: a, Error: ToWire(err), Interrupted: errors.Is(err, ErrInterrupted)}
}

func spooledBytes(m *Message) int64 {
	var n int64
	for _, p := range m.GetParts() {
		if p.GetSize() > inlineMax {
			n += p.GetSize()
		}
	}
	return n
}

// receiveContent fills the message's parts, in memory or in the spool, and checks
// that they are what was read at the source.
func receiveContent(stream peerpb.Peer_DeliverServer, m *Message, room *slot) error {
	parts := make([]*incoming, len(m.GetParts()))
	for i, p := range m.GetParts() {
		in, err := newIncoming(i, p, room)
		if err != nil {
			return err
		}
		defer in.close()
		parts[i] = in
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		chunk := req.GetChunk()
		if chunk == nil || int(chunk.GetPart()) >= len(parts) || chunk.GetPart() < 0 {
			return errors.New("chunk of a part that was not announced")
		}
		if err := parts[chunk.GetPart()].write(chunk.GetData()); err != nil {
			return err
		}
	}
	for i, in := range parts {
		if err := in.finish(); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
	}
	return nil
}

// incoming is one part on its way in.
type incoming struct {
	part *adapterpb.Part
	data []byte
	file *os.File
	sum  hash.Hash
	size int64
}

func newIncoming(i int, p *adapterpb.Part, room *slot) (*incoming, error) {
	in := &incoming{part: p, sum: sha256.New()}
	if p.GetSize() <= inlineMax {
		return in, nil
	}
	dir, err := room.path()
	if err != nil {
		return nil, err
	}
	in.file, err = os.OpenFile(filepath.Join(dir, fmt.Sprintf("part-%d", i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return in, nil
}

func (in *incoming) write(data []byte) error {
	if in.size += int64(len(data)); in.size > in.part.GetSize() {
		return fmt.Errorf("more than the announced %d bytes", in.part.GetSize())
	}
	in.sum.Write(data)
	if in.file == nil {
		in.data = append(in.data, data...)
		return nil
	}
	_, err := in.file.Write(data)
	return err
}

func (in *incoming) finish() error {
	switch {
	case in.size != in.part.GetSize():
		return fmt.Errorf("%d bytes, %d were announced", in.size, in.part.GetSize())
	case string(in.sum.Sum(nil)) != string(in.part.GetSha256()):
		return errors.New("checksum differs")
	case in.file == nil:
		in.part.Content = &adapterpb.Part_Inline{Inline: in.data}
		return nil
	}
	in.part.Content = &adapterpb.Part_Spooled{Spooled: in.file.Name()}
	return in.file.Close()
}

// close closes the file if finish did not.
func (in *incoming) close() {
	if in.file != nil {
		_ = in.file.Close()
	}
}
