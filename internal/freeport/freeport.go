// Package freeport finds loopback ports for tests and for the demo: for processes that
// are started with a port's number, and may be started again on the same one.
//
// To ask the system for a free port and to give it back is a race: until the process
// has started, the port can go to anybody, such as another test or an outgoing
// connection. The ports here lie outside the range that the system itself gives away,
// and among users of this package, in whatever process, nobody else gets them: they
// come in blocks, and a block belongs to who listens on its last port.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

const (
	// block is the number of ports that are taken together, the guard included.
	block = 8
	// Most is the number of ports in a row that can be had.
	Most = block - 1

	// lowest and highest bound the ports. No system is known to give them to
	// connections by default, and well-known services are rare among them.
	lowest, highest = 10_000, 32_767

	attempts = 1000
)

// Take returns the first of n ports in a row, at most [Most], that are free for TCP and
// UDP on 127.0.0.1. They are the caller's until release is called, which may be done
// more than once, or the process ends.
func Take(n int) (first int, release func(), err error) {
	if n < 1 || n > Most {
		return 0, nil, fmt.Errorf("%d ports in a row; 1 to %d can be had", n, Most)
	}
	low, high := span(os.ReadFile)
	for range attempts {
		first := low + rand.IntN((high-low+1)/block)*block
		guard, err := net.Listen("tcp", address(first+Most))
		if err != nil {
			continue // another's block
		}
		if !allFree(first, n) {
			guard.Close()
			continue
		}
		return first, sync.OnceFunc(func() { guard.Close() }), nil
	}
	return 0, nil, errors.New("no free loopback ports between " + strconv.Itoa(low) + " and " + strconv.Itoa(high))
}

// span is the range to choose from: the part that outgoing connections do not use, as
// far as the system tells.
func span(read func(string) ([]byte, error)) (low, high int) {
	low, high = lowest, highest
	text, err := read("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return low, high // not Linux
	}
	var from, to int
	if _, err := fmt.Sscan(string(text), &from, &to); err != nil {
		return low, high
	}
	const enough = 128 * block
	switch {
	case from-low >= enough:
		return low, min(high, from-1)
	case 65_535-to >= enough:
		return to + 1, 65_535
	}
	return low, high // all ports are given to connections: it cannot be helped
}

// allFree reports whether nobody uses these ports now.
func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			return false
		}
		l.Close()
		u, err := net.ListenPacket("udp", address(port))
		if err != nil {
			return false
		}
		u.Close()
	}
	return true
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
