// Package exchange carries messages from receive locations to send ports, in the
// order that loses nothing and doubles nothing:
//
//	offer → Intend (committed) → take → content → send to each port, probing first
//	where an attempt may have arrived → Delivered (committed) → settle → Settled
//	(committed) → forgotten after a grace time
//
// The source keeps an item until "delivered to every port" is committed, and the
// ledger keeps the item's fate until the source has confirmed that the item is
// gone. Whatever is cut off in between, by a crash or a change of owner, is found
// again in those two places. [carriage] is that way, step by step; [receiver] is a
// location, which decides what sets out; [Ports] is the sending end on a node.
//
// The package answers for the order of the steps. Which node may take them is
// ownership's business; every commit carries the tenure, and the first one that
// is refused ends the exchange.
package exchange
