package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's messages do not say whom they are meant for, nor which cluster they belong
// to, and a follower takes entries from whoever claims a later term. So each of its
// connections begins with a greeting that does: whoever is not meant, or belongs to
// another cluster, hangs up. Without it a leader would take a node that came back
// on a new disk for the server that it was, and what is left of a cluster that was
// given up by Recover could take its ledger back.

// hello is what the caller says first. An ID that it does not know is empty.
type hello struct{ cluster, from, to string }

// maxHello bounds a greeting, in bytes.
const maxHello = 1024

func (h hello) encode() ([]byte, error) {
	text := strings.Join([]string{h.cluster, h.from, h.to}, "\n")
	if len(text) > maxHello {
		return nil, fmt.Errorf("greeting of %d bytes, of %d at most", len(text), maxHello)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...), nil
}

func readHello(r io.Reader) (hello, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return hello{}, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxHello {
		return hello{}, fmt.Errorf("greeting of %d bytes, of %d at most", n, maxHello)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return hello{}, err
	}
	part := strings.Split(string(text), "\n")
	if len(part) != 3 {
		return hello{}, errors.New("greeting that cannot be read")
	}
	return hello{part[0], part[1], part[2]}, nil
}

// named is the transport over the network, which calls servers by their ID as well
// as their address: address#ID.
type named struct {
	*raft.NetworkTransport
	// address returns where a node is now, or "".
	address func(node string) string
}

var (
	_ raft.Transport   = (*named)(nil)
	_ raft.WithPreVote = (*named)(nil)
	_ raft.WithClose   = (*named)(nil)
)

func (n *named) target(id raft.ServerID, at raft.ServerAddress) raft.ServerAddress {
	if n.address != nil {
		node, _ := splitID(id)
		if now := n.address(node); now != "" {
			at = raft.ServerAddress(now)
		}
	}
	return at + "#" + raft.ServerAddress(id)
}

// AppendEntriesPipeline implements raft.Transport.
func (n *named) AppendEntriesPipeline(id raft.ServerID, at raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := n.NetworkTransport.AppendEntriesPipeline(id, n.target(id, at))
	if err != nil {
		return nil, err
	}
	return newPipeline(p), nil
}

// AppendEntries implements raft.Transport.
func (n *named) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return n.NetworkTransport.AppendEntries(id, n.target(id, at), args, resp)
}

// RequestVote implements raft.Transport.
func (n *named) RequestVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return n.NetworkTransport.RequestVote(id, n.target(id, at), args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (n *named) RequestPreVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return n.NetworkTransport.RequestPreVote(id, n.target(id, at), args, resp)
}

// InstallSnapshot implements raft.Transport.
func (n *named) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return n.NetworkTransport.InstallSnapshot(id, n.target(id, at), args, resp, data)
}

// TimeoutNow implements raft.Transport.
func (n *named) TimeoutNow(id raft.ServerID, at raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return n.NetworkTransport.TimeoutNow(id, n.target(id, at), args, resp)
}

// greeting is raft's stream layer, with the greeting at the start of every
// connection.
type greeting struct {
	raft.StreamLayer
	who *identity
}

// Dial implements raft.StreamLayer.
func (g *greeting) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	at, to, _ := strings.Cut(string(target), "#")
	data, err := hello{g.who.get(), string(g.who.self), to}.encode()
	if err != nil {
		return nil, err
	}
	conn, err := g.StreamLayer.Dial(raft.ServerAddress(at), timeout)
	if err != nil {
		return nil, err
	}
	err = conn.SetWriteDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = conn.Write(data)
	}
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Accept implements raft.StreamLayer. It does not wait for the greeting: the first
// Read does, in the connection's own goroutine.
func (g *greeting) Accept() (net.Conn, error) {
	conn, err := g.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return &greeted{Conn: conn, who: g.who}, nil
}

// greeted is a connection that was accepted.
type greeted struct {
	net.Conn
	who  *identity
	once sync.Once
	by   hello
	err  error
}

// Read implements net.Conn. It ends with io.EOF, which raft takes in silence, if the
// conversation is not for this node.
func (c *greeted) Read(b []byte) (int, error) {
	c.once.Do(func() { c.by, c.err = readHello(c.Conn) })
	if c.err != nil {
		return 0, c.err
	}
	// Each time: this node may have learnt meanwhile which cluster it belongs to.
	if why := c.unfit(); why != "" {
		c.who.refuse(c.by, why)
		return 0, io.EOF
	}
	return c.Conn.Read(b)
}

func (c *greeted) unfit() string {
	mine := c.who.get()
	switch {
	case c.by.to != string(c.who.self):
		return "they are meant for a server that this node no longer is, or never was: its disk has been replaced, or two nodes have the same name"
	case c.by.cluster != "" && mine != "" && c.by.cluster != mine:
		return "it belongs to another cluster of the same name (" + c.by.cluster + ", this one is " + mine + "): give one of them another cluster.name, or empty that node's data directory so that it joins this cluster"
	}
	return ""
}
