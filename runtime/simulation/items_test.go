package simulation

import (
	"fmt"
	"slices"
	"time"
)

// items are those at the sources, of which every group has one, and those at the
// sink. The world's lock guards them.
type items struct {
	w       *world
	made    map[string]int      // by group
	waiting map[string][]string // by group, the oldest first
	arrived map[string]int      // messages at the sink, by message ID
	sent    map[string][]string // message IDs at the sink, by item
	closed  bool                // nothing new comes
}

func newItems(w *world) *items {
	return &items{w: w, made: map[string]int{}, waiting: map[string][]string{}, arrived: map[string]int{}, sent: map[string][]string{}}
}

// location is the receive location of a group.
func location(group string) string { return group + "-in" }

func (w *world) group(name string) int { return slices.Index(w.groups, name) }

// produce puts items at the source of a group until the world wants no more.
func (i *items) produce(group string) {
	for {
		time.Sleep(span(i.w.draw(streamSource, i.w.group(group), 0), 80*time.Millisecond, 400*time.Millisecond))
		i.w.mu.Lock()
		if i.closed {
			i.w.mu.Unlock()
			return
		}
		i.made[group]++
		i.waiting[group] = append(i.waiting[group], fmt.Sprintf("%s/%d", group, i.made[group]))
		i.w.mu.Unlock()
	}
}

func (i *items) close() {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	i.closed = true
}

func (i *items) nextLocked(group string) string {
	if len(i.waiting[group]) == 0 {
		return ""
	}
	return i.waiting[group][0]
}

func (i *items) arrivedLocked(id string) bool { return i.arrived[id] > 0 }

func (i *items) sendLocked(k *work, item, id string) {
	i.arrived[id]++
	i.sent[item] = append(i.sent[item], id)
	i.w.noteLocked("%s sends %q", k.tenure.Incarnation, id)
	if len(i.sent[item]) > 1 {
		i.w.failLocked("item %s arrived %d times: %q", item, len(i.sent[item]), i.sent[item])
	}
}

func (i *items) settleLocked(group, item string) {
	if len(i.sent[item]) == 0 {
		i.w.failLocked("item %s was taken from its source and had never arrived", item)
	}
	i.waiting[group] = slices.DeleteFunc(i.waiting[group], func(s string) bool { return s == item })
}

// left is how many items have not come through.
func (i *items) left() (n int) {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	for _, of := range i.waiting {
		n += len(of)
	}
	return n
}

// count checks that all that went in came out once.
func (i *items) count() {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	for _, group := range i.w.groups {
		for n := range i.made[group] {
			item := fmt.Sprintf("%s/%d", group, n+1)
			if got := len(i.sent[item]); got != 1 {
				i.w.failLocked("item %s arrived %d times", item, got)
			}
		}
	}
}
