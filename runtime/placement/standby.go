package placement

// Standbys returns, by the group's name, who would take over each owned group if
// its owner alone were gone. Groups that nobody could take over are missing.
func Standbys(c Cluster) map[string]Decision {
	b := newBoard(c)
	ds := make(map[string]Decision, len(b.groups))
	for g, group := range b.groups {
		if b.was[g] == nowhere || group.Stopped != "" {
			continue
		}
		at := b.at[g]
		b.put(g, nowhere)
		if d := b.assign(g, b.was[g]); d.Node != "" {
			ds[group.Name] = d
		}
		b.put(g, at)
	}
	return ds
}
