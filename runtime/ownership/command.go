package ownership

import (
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// stamp notes when the command was proposed, for people who read events.
func stamp(c *pb.Command) *pb.Command {
	c.AtMs = time.Now().UnixMilli()
	return c
}
