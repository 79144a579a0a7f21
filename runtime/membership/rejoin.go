package membership

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// rejoinEvery is the interval, more or less, at which absent nodes are looked
	// for: memberlist does not come back by itself after a long partition
	// (memberlist#222).
	rejoinEvery = 3 * time.Second
	// resolveTimeout bounds the look-up of one name.
	resolveTimeout = 2 * time.Second
	// insistFor is how long after its start a node goes on to call on its seeds even
	// if it sees them: with a new address it is refused until they take its former
	// life for dead, and nobody tells it.
	insistFor = 30 * time.Second
	// joinsAtOnce bounds how many are tried at the same time; one that does not
	// answer takes some seconds.
	joinsAtOnce = 8
)

// rejoin looks for the nodes it was told of, and for those it has lost.
func (m *Membership) rejoin() {
	began, found, told := time.Now(), false, ""
	for {
		m.table.forget()
		if absent := m.absent(time.Since(began) < insistFor); len(absent) > 0 {
			n, err := m.join(absent)
			switch {
			case m.ctx.Err() != nil:
			case n > 0 && !found:
				found = true
				m.log.Info("found other nodes", "contacted", n)
			case n == 0 && err != nil:
				if tried := strings.Join(absent, " "); tried != told {
					told = tried
					m.log.Info("no answer from nodes that are looked for: they are down or cut off, or have another cluster.name or gossip_key", "tried", absent, "error", err)
				}
			}
		}
		wait := rejoinEvery/2 + rand.N(rejoinEvery)
		if m.list.NumMembers() == 1 {
			wait /= 6 // alone: be quick
		}
		timer := time.NewTimer(wait)
		select {
		case <-m.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// join contacts the addresses, and returns how many answered and one error of
// those that did not.
func (m *Membership) join(addresses []string) (n int, err error) {
	slots := make(chan struct{}, joinsAtOnce)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, address := range addresses {
		select {
		case slots <- struct{}{}:
		case <-m.ctx.Done():
		}
		if m.ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			joined, failed := m.list.Join([]string{address})
			mu.Lock()
			defer mu.Unlock()
			n += joined
			if failed != nil {
				err = failed
			}
		})
	}
	wg.Wait()
	return n, err
}

// absent are the addresses to look for: seeds and lost members that are not among
// the living; with insist, also the seeds that are.
func (m *Membership) absent(insist bool) []string {
	self := m.Address()
	living := map[string]bool{self: true}
	var lost []string
	for _, member := range m.table.all() {
		switch member.State {
		case Alive:
			living[member.Address] = true
		case Dead:
			lost = append(lost, member.Address)
		}
	}
	var addresses []string
	for _, seed := range m.cfg.Join {
		found := m.resolve(seed)
		if slices.Contains(found, self) {
			continue
		}
		if insist || !slices.ContainsFunc(found, func(a string) bool { return living[a] }) {
			addresses = append(addresses, found...)
		}
	}
	for _, address := range lost {
		if !living[address] {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

// resolve returns the addresses behind a seed; a name may have several. One that
// cannot be resolved now has none.
func (m *Membership) resolve(seed string) []string {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil {
		return []string{net.JoinHostPort(ip.String(), port)}
	}
	ctx, cancel := context.WithTimeout(m.ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil && m.ctx.Err() == nil {
		if _, due := m.table.echoes.due("resolve "+host, time.Now()); due {
			m.log.Warn("a node that is looked for has no address (cluster.join)", "host", host, "error", err)
		}
	}
	var addresses []string
	for _, ip := range ips {
		addresses = append(addresses, net.JoinHostPort(ip, port))
	}
	return addresses
}
