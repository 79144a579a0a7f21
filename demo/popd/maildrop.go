package popd

import (
	"fmt"
	"slices"
	"sync"
)

type mail struct {
	uidl    string
	content []byte
}

// maildrop holds the mails of the account. The zero value is empty.
type maildrop struct {
	mu     sync.Mutex
	list   []mail
	next   int
	locked bool
}

func (d *maildrop) deliver(content []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	m := mail{uidl: fmt.Sprintf("popd%08x", d.next), content: slices.Clone(content)}
	d.list = append(d.list, m)
	return m.uidl
}

func (d *maildrop) lock() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return false
	}
	d.locked = true
	return true
}

func (d *maildrop) unlock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locked = false
}

func (d *maildrop) isLocked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locked
}

// snapshot is what a session sees until it ends.
func (d *maildrop) snapshot() []mail {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

func (d *maildrop) has(uidl string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.list, func(m mail) bool { return m.uidl == uidl })
}

func (d *maildrop) remove(uidl string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.list)
	d.list = slices.DeleteFunc(d.list, func(m mail) bool { return m.uidl == uidl })
	return len(d.list) < before
}

func (d *maildrop) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.list)
}

func (d *maildrop) mails() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([][]byte, len(d.list))
	for i, m := range d.list {
		out[i] = slices.Clone(m.content)
	}
	return out
}
