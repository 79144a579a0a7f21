package guardian

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// LinkEnv names the descriptor of the link in the runtime's environment.
	LinkEnv = "FAIRLEAD_GUARDIAN_LINK"

	// maxMessage bounds a message on the link, in bytes; maxPeers the addresses in
	// one, which are more than anybody can tell in time.
	maxMessage = 32 << 10
	maxPeers   = 64
	// linkTimeout bounds what the two sides wait for each other. The link's buffer holds
	// hundreds of messages, so only a guardian that is stopped makes anybody wait.
	linkTimeout = time.Second
)

// greeting is the guardian's one message to the runtime.
type greeting struct {
	Certifier []byte `json:"certifier"`
}

// report is a message of the runtime to its guardian. Each is whole: the link keeps
// the bounds of messages.
type report struct {
	Beat    bool     `json:"beat,omitempty"`
	Ready   bool     `json:"ready,omitempty"`
	Refused bool     `json:"refused,omitempty"`
	Told    bool     `json:"told,omitempty"` // Peers is meant, even if empty
	Peers   []string `json:"peers,omitempty"`
}

// over returns what r, said after older, leaves to be said of both.
func (r report) over(older report) report {
	r.Beat = r.Beat || older.Beat
	r.Ready = r.Ready || older.Ready
	r.Refused = r.Refused || older.Refused
	if !r.Told {
		r.Told, r.Peers = older.Told, older.Peers
	}
	return r
}

// Link is a runtime's connection to its guardian. All methods may be called at the
// same time, and none waits for the guardian, except Close. Nil is a valid Link: there is
// no guardian, and nothing happens.
type Link struct {
	conn      net.Conn
	certifier []byte
	// orphaned is called when the guardian is gone, unless Close came first.
	orphaned func()

	mu      sync.Mutex
	unsaid  report // newest wins, so a slow guardian costs no memory
	closing bool

	wake  chan struct{} // something is unsaid, or closing
	tasks sync.WaitGroup
}

// newLink takes the guardian's greeting from the connection, which it owns from now on.
func newLink(conn net.Conn, orphaned func()) (*Link, error) {
	l := &Link{conn: conn, orphaned: orphaned, wake: make(chan struct{}, 1)}
	if err := l.greet(); err != nil {
		return nil, errors.Join(fmt.Errorf("greeting of the guardian: %w", err), conn.Close())
	}
	l.tasks.Go(l.speak)
	l.tasks.Go(l.listen)
	// Also says that signals are handled from now on.
	l.Beat()
	return l, nil
}

func (l *Link) greet() error {
	if err := l.conn.SetReadDeadline(time.Now().Add(linkTimeout)); err != nil {
		return err
	}
	var g greeting
	if err := receive(l.conn, &g); err != nil {
		return err
	}
	l.certifier = g.Certifier
	return l.conn.SetReadDeadline(time.Time{})
}

// Certifier is the SHA-256 of the proof that the guardian will give of this process's
// death; nil without a guardian.
func (l *Link) Certifier() []byte {
	if l == nil {
		return nil
	}
	return slices.Clone(l.certifier)
}

// SetPeers names the cluster addresses of the other nodes, as host:port, in the order
// in which they are to be told of this node's death: the leader first. Only the first 64
// are kept.
func (l *Link) SetPeers(addresses []string) {
	addresses = addresses[:min(len(addresses), maxPeers)]
	l.say(report{Told: true, Peers: slices.Clone(addresses)})
}

// Ready says that the node serves.
func (l *Link) Ready() { l.say(report{Ready: true}) }

// Beat says that the node is not stuck. It belongs where that is known, such as in the
// main loop, once a second or more often.
func (l *Link) Beat() { l.say(report{Beat: true}) }

// Refuse says that the process is about to exit because its settings are wrong, which a
// restart would not change. The exit status alone does not say it: a Go program that
// panics has that of wrong usage.
func (l *Link) Refuse() { l.say(report{Refused: true}) }

func (l *Link) say(r report) {
	if l == nil {
		return
	}
	l.mu.Lock()
	if !l.closing {
		l.unsaid = r.over(l.unsaid)
	}
	l.mu.Unlock()
	l.poke()
}

func (l *Link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close says what is unsaid, within some seconds, and ends the link. It may be called
// more than once.
func (l *Link) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.poke()
	l.tasks.Wait()
	return nil
}

// speak sends what is unsaid until Close.
func (l *Link) speak() {
	defer l.conn.Close() // ends listen
	for range l.wake {
		l.mu.Lock()
		r, closing := l.unsaid, l.closing
		l.unsaid = report{}
		l.mu.Unlock()
		if err := l.send(r); errors.Is(err, os.ErrDeadlineExceeded) {
			// The guardian is stopped. The next call, of which there are some each
			// second, takes what is left with it.
			l.mu.Lock()
			l.unsaid = l.unsaid.over(r)
			l.mu.Unlock()
		} // With any other error the guardian is gone: listen knows.
		if closing {
			return
		}
	}
}

func (l *Link) send(r report) error {
	if !r.Beat && !r.Ready && !r.Refused && !r.Told {
		return nil
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(linkTimeout)); err != nil {
		return err
	}
	return transmit(l.conn, r)
}

// listen waits for the guardian's end. Having closed the link itself counts as having
// said good-bye.
func (l *Link) listen() {
	for {
		n, err := l.conn.Read(make([]byte, 1))
		if err == nil && n > 0 {
			continue // of a later version, which may say more
		}
		l.mu.Lock()
		closing := l.closing
		l.mu.Unlock()
		if !closing {
			l.orphaned()
		}
		return
	}
}

func transmit(conn net.Conn, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("message of %d bytes on the link, at most %d are possible", len(data), maxMessage)
	}
	_, err = conn.Write(data)
	return err
}

func receive(conn net.Conn, message any) error {
	buffer := make([]byte, maxMessage)
	n, err := conn.Read(buffer)
	if err != nil {
		return err
	}
	if n == 0 {
		return net.ErrClosed // a message is never empty, so this is the end
	}
	return json.Unmarshal(buffer[:n], message)
}
