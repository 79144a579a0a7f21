package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/membership"
	"github.com/fairlead-io/fairlead/runtime/tracking"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func (n *Node) openHistory() (err error) {
	n.history, err = tracking.Open(tracking.Config{Dir: filepath.Join(n.cfg.File.Node.DataDir, "history"), Log: n.log})
	if err != nil {
		return fmt.Errorf("history of messages: %w", err)
	}
	n.onStop(n.history.Close)
	return nil
}

// tell notes what happened to a message here.
func (n *Node) tell(h exchange.Happening) {
	n.history.Note(tracking.Step{
		At: h.At, Message: h.Message, Location: h.Location, Key: h.Key, Kind: h.Kind, Node: n.name, Port: h.Port,
		Attempt: h.Attempt, Size: h.Size, Text: h.Text, Name: h.Name, Context: h.Context,
	})
}

// keep stores a copy of a message's content.
func (n *Node) keep(_ context.Context, m *exchange.Message) error {
	for i, p := range m.GetParts() {
		if err := n.keepPart(m.GetId(), i, p); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
	}
	return nil
}

func (n *Node) keepPart(message string, i int, p *adapterpb.Part) error {
	path, spooled := p.GetContent().(*adapterpb.Part_Spooled)
	if !spooled {
		return n.history.Content(message, i, bytes.NewReader(p.GetInline()))
	}
	f, err := os.Open(path.Spooled)
	if err != nil {
		return err
	}
	defer f.Close()
	return n.history.Content(message, i, io.Reader(f))
}

// historyTimeout bounds the question to one other node for its history.
const historyTimeout = 5 * time.Second

// History implements peerpb.PeerServer.
func (p *peers) History(ctx context.Context, r *peerpb.HistoryRequest) (*peerpb.HistoryReply, error) {
	records, truncated, err := p.n.history.Query(ctx, queryOf(r))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	data, err := json.Marshal(records)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &peerpb.HistoryReply{Json: data, Truncated: truncated}, nil
}

func queryOf(r *peerpb.HistoryRequest) tracking.Query {
	q := tracking.Query{Message: r.GetMessage(), Location: r.GetLocation(), Limit: int(r.GetLimit())}
	if ns := r.GetSinceNs(); ns != 0 {
		q.Since = time.Unix(0, ns)
	}
	if ns := r.GetUntilNs(); ns != 0 {
		q.Until = time.Unix(0, ns)
	}
	return q
}

// recollect asks every node that can be reached for its history and puts it together.
// Nodes that do not answer are missing in it.
func (n *Node) recollect(ctx context.Context, r *peerpb.HistoryRequest) (records []tracking.Record, truncated bool, err error) {
	lists := make([][]tracking.Record, 1)
	if lists[0], truncated, err = n.history.Query(ctx, queryOf(r)); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range n.membership.Members() {
		if m.Name == n.name || m.State != membership.Alive {
			continue
		}
		asked.Go(func() {
			list, more, err := n.historyOf(ctx, m.Name, r)
			if err != nil {
				n.log.Debug("no history from another node", "of", m.Name, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			lists, truncated = append(lists, list), truncated || more
		})
	}
	asked.Wait()
	return tracking.Merge(lists...), truncated, nil
}

func (n *Node) historyOf(ctx context.Context, node string, r *peerpb.HistoryRequest) (records []tracking.Record, truncated bool, err error) {
	client, err := n.client(node)
	if err != nil {
		return nil, false, err
	}
	reply, err := client.History(ctx, r)
	if err != nil {
		return nil, false, err
	}
	return records, reply.GetTruncated(), json.Unmarshal(reply.GetJson(), &records)
}
