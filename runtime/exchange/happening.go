package exchange

import "time"

// Happening is one thing that happened to a message, for its history.
type Happening struct {
	At                           time.Time
	Message, Location, Key, Name string
	// Kind is received, routed (once for each port), sent, failed, suspended or settled.
	Kind    string
	Port    string
	Attempt int
	Size    int64
	// Text is an error or a reason.
	Text string
	// Context comes with received alone. It must not be changed.
	Context map[string]string
}

// tell adds to the message's history.
func (c *carriage) tell(h Happening) {
	f := c.r.e.cfg.Tell
	if f == nil || c.id == "" || c.r.loc.Quiet {
		return
	}
	h.At, h.Message, h.Location, h.Key, h.Name = time.Now(), c.id, c.r.loc.Name, c.item.GetKey(), c.name()
	f(h)
}
