package node

// followSuccessor ends the node when it hears that its cluster was given up, and
// recovered from another node's disk: two clusters that came from one must not both
// poll the same sources.
func (n *Node) followSuccessor() {
	changes, stop := n.membership.Changes()
	defer stop()
	for {
		for _, cluster := range n.membership.OtherClusters() {
			if err := n.ledger.GiveUp(cluster); err != nil {
				n.fail(err)
				return
			}
		}
		select {
		case <-changes:
		case <-n.ctx.Done():
			return
		}
	}
}
