package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Refusal says why the node cannot be given the group, and nothing if it can, as
// what follows the node's name: "is draining", "adapter ftp is missing". What
// other groups are on the node is not looked at.
func Refusal(n Node, g Group) string {
	if why := closed(n); why != "" {
		return why
	}
	return unfit(n, g)
}

// closed says why a node is given no group at all.
func closed(n Node) string {
	switch {
	case n.Witness:
		return "is a witness"
	case n.Draining:
		return "is draining"
	case n.Paused:
		return "is paused"
	case n.Quarantined != "":
		return "is in quarantine: " + n.Quarantined
	}
	return ""
}

// unfit says why a node may not have the group, now or later.
func unfit(n Node, g Group) string {
	switch {
	case n.Witness:
		return "is a witness"
	case len(g.Possible) > 0 && !slices.Contains(g.Possible, n.Name):
		return "is not a possible owner"
	}
	return lacks(n, g.Adapters)
}

// lacks says which adapter the node has not, by name the first. A node may have
// several versions of an adapter; the one with a right checksum counts.
func lacks(n Node, needs []Need) (why string) {
	first := ""
	for _, need := range needs {
		if why != "" && need.Name >= first {
			continue
		}
		if w := need.lackedBy(n); w != "" {
			why, first = w, need.Name
		}
	}
	return why
}

func (need Need) lackedBy(n Node) string {
	var have []Adapter
	for _, a := range n.Adapters {
		if a.Name != need.Name {
			continue
		}
		if len(need.SHA256) == 0 || slices.ContainsFunc(need.SHA256, func(sum string) bool { return strings.EqualFold(sum, a.SHA256) }) {
			return ""
		}
		have = append(have, a)
	}
	if len(have) == 0 {
		return fmt.Sprintf("adapter %s is missing", need.Name)
	}
	a := slices.MinFunc(have, func(a, b Adapter) int { return strings.Compare(a.Version+a.SHA256, b.Version+b.SHA256) })
	name := strings.TrimSpace(a.Name + " " + a.Version)
	sums := make([]string, len(need.SHA256))
	for i, sum := range need.SHA256 {
		sums[i] = short(sum)
	}
	slices.Sort(sums)
	if a.SHA256 == "" {
		return fmt.Sprintf("adapter %s has no checksum, the deployment wants %s", name, strings.Join(sums, " or "))
	}
	return fmt.Sprintf("adapter %s has checksum %s, the deployment wants %s", name, short(a.SHA256), strings.Join(sums, " or "))
}

// short is the beginning of a checksum, enough to tell two apart.
func short(sum string) string { return strings.ToLower(sum[:min(len(sum), 8)]) }
