package tracking

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The kinds of steps, in the order in which a message takes them.
const (
	Received  = "received"  // the item was taken from its source
	Routed    = "routed"    // it goes to Port; one step for each port
	Sent      = "sent"      // Port has confirmed it
	Failed    = "failed"    // an attempt at Port ended with the error in Text
	Suspended = "suspended" // kept for a person's decision; Text says why
	Resumed   = "resumed"   // a person lets it go on
	Discarded = "discarded" // a person gave it up
	Settled   = "settled"   // the source has confirmed that the item is done with
)

// Step is one thing that happened to a message. What is longer than its limit is cut,
// and ends in "… (cut)".
type Step struct {
	// At is when it happened. The zero time, and a time that is still to come, stand
	// for now.
	At time.Time `json:"at"`
	// Message is the message's ID; at most 256 bytes. A step without it is not kept.
	Message string `json:"message"`
	// Location is the receive location's name, and belongs into every step: a query
	// for a location finds by it; at most 256 bytes.
	Location string `json:"location"`
	// Key is the item's key at its source; at most 1 KiB.
	Key string `json:"key,omitempty"`
	// Kind is one of the constants above. Others are kept, too, and change no state.
	Kind string `json:"kind"`
	// Node is the node that took the step; at most 256 bytes.
	Node string `json:"node,omitempty"`
	// Port is the send port that the step concerns. Empty: the message as a whole.
	Port string `json:"port,omitempty"`
	// Attempt counts the attempts at Port from 1; 0 where there is none.
	Attempt int `json:"attempt,omitempty"`
	// Size is the content's, in bytes; 0 where it is not known.
	Size int64 `json:"size,omitempty"`
	// Text is the error or the reason, for people; at most 4 KiB. It is kept as it is:
	// whoever notes it keeps secrets out.
	Text string `json:"text,omitempty"`
	// Name is what people call the message, such as the file's name; at most 1 KiB.
	Name string `json:"name,omitempty"`
	// Context are the message's properties, kept with received only. A value is kept up
	// to 2 KiB, all together up to 8 KiB; what does not fit is left out, in the order of
	// the keys, and the property "(cut)" says how many. The value of a property whose
	// name tells of a secret is replaced by "(not kept)".
	Context map[string]string `json:"context,omitempty"`
}

// The limits of a step's parts, in bytes.
const (
	maxName    = 256 // of messages, locations, kinds, nodes and ports
	maxKey     = 1 << 10
	maxText    = 4 << 10
	maxValue   = 2 << 10
	maxContext = 8 << 10
)

const (
	cutMark  = "… (cut)"
	cutKey   = "(cut)"
	notKept  = "(not kept)"
	roomy    = 24 // properties that most messages have fewer of
	cutSpare = 64 // bytes for the property that says how many were left out
	lengths  = 4  // bytes that the lengths of a property's key and value take
)

// cut returns as much of s as fits into limit bytes, in whole characters, and the mark
// that shows that there was more.
func cut(s string, limit int) (kept, mark string) {
	if len(s) <= limit {
		return s, ""
	}
	n := limit - len(cutMark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], cutMark
}

// within returns s as it is kept.
func within(s string, limit int) string {
	kept, mark := cut(s, limit)
	return kept + mark
}

// telltales are parts of property names whose values are secrets.
var telltales = []string{"password", "passwd", "secret", "token", "authorization", "credential", "cookie"}

// secretive says whether a property of that name may hold a secret.
func secretive(name string) bool {
	for _, t := range telltales {
		if containsFold(name, t) {
			return true
		}
	}
	return false
}

// containsFold is strings.Contains for an ASCII word, whatever the case, without
// making a copy.
func containsFold(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// bounded calls add for each property that is kept, in the order of the names.
func bounded(context map[string]string, add func(key, value, mark string)) {
	var few [roomy]string
	keys := few[:0]
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	left, missing := maxContext-cutSpare, 0
	for _, k := range keys {
		value, mark := cut(context[k], maxValue)
		if secretive(k) {
			value, mark = notKept, ""
		}
		need := lengths + len(k) + len(value) + len(mark)
		if need > left {
			missing++
			continue
		}
		left -= need
		add(k, value, mark)
	}
	if missing > 0 {
		add(cutKey, fmt.Sprintf("%d more properties", missing), "")
	}
}
