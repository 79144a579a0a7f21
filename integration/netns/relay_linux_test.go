package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// quality is what a slow link does to each packet, in each direction.
type quality struct {
	// delay comes with up to jitter more or less.
	delay, jitter time.Duration
	// loss is the share of packets that are lost, from 0 to 1.
	loss float64
	seed uint64
}

const (
	// relayQueue bounds the packets on their way in one direction; more are lost, as
	// on any link.
	relayQueue = 4096
	// relayPoll is how often a reader looks whether the relay is to stop.
	relayPoll = 50 * time.Millisecond
	// frameMax holds the largest packet that the kernel has not cut into segments
	// yet, with the header that says so.
	frameMax = 1<<16 + 128
)

// relay carries frames between two interfaces, late and not all of them. With each
// frame goes the kernel's note on checksums and segments that are still to be made
// (PACKET_VNET_HDR, packet(7)), so that large packets pass as they are.
type relay struct {
	ends     [2]int
	stopping atomic.Bool
	pumps    sync.WaitGroup
}

func startRelay(a, b string, q quality) (*relay, error) {
	r := &relay{}
	for i, name := range []string{a, b} {
		fd, err := openInterface(name)
		if err != nil {
			if i == 1 {
				_ = unix.Close(r.ends[0])
			}
			return nil, err
		}
		r.ends[i] = fd
	}
	r.carry(r.ends[0], r.ends[1], q, 1)
	r.carry(r.ends[1], r.ends[0], q, 2)
	return r, nil
}

func openInterface(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	// Protocol 0: it takes nothing before it is bound to the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("packet socket: %w", err)
	}
	poll := unix.NsecToTimeval(relayPoll.Nanoseconds())
	all := uint16(unix.ETH_P_ALL)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &poll),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Index}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return fd, nil
}

type frame struct {
	due  time.Time
	data []byte
}

// carry starts the two goroutines of one direction; both end when stop is called.
func (r *relay) carry(from, to int, q quality, direction uint64) {
	queue := make(chan frame, relayQueue)
	r.pumps.Go(func() {
		defer close(queue)
		rng := rand.New(rand.NewPCG(q.seed, direction))
		buf := make([]byte, frameMax)
		var last time.Time
		for !r.stopping.Load() {
			n, err := unix.Read(from, buf)
			if err != nil || n == 0 {
				continue // the poll's time is over, or the interface is down for now
			}
			if rng.Float64() < q.loss {
				continue
			}
			due := time.Now().Add(q.delay + time.Duration((2*rng.Float64()-1)*float64(q.jitter)))
			if due.Before(last) { // late, but in order
				due = last
			}
			last = due
			select {
			case queue <- frame{due, append([]byte(nil), buf[:n]...)}:
			default:
			}
		}
	})
	r.pumps.Go(func() {
		for f := range queue {
			if wait := time.Until(f.due); wait > 0 && !r.stopping.Load() {
				<-time.After(wait)
			}
			if !r.stopping.Load() {
				_, _ = unix.Write(to, f.data) // a link may lose what it cannot carry
			}
		}
	})
}

// stop loses what is on its way.
func (r *relay) stop() error {
	r.stopping.Store(true)
	r.pumps.Wait()
	return errors.Join(unix.Close(r.ends[0]), unix.Close(r.ends[1]))
}
