package config

import (
	"maps"
	"slices"
	"strings"
)

// didYouMean returns the known word that was probably meant, empty if none was.
func didYouMean(word string, known []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	w := plain(word)
	best, least := "", 1+max(1, min(3, len(w)/3))
	for _, k := range known {
		p := plain(k)
		if p == w {
			return k
		}
		if n := distance(w, p); n < least {
			best, least = k, n
		}
	}
	if best != "" || len(w) < 3 {
		return best
	}
	for _, k := range known {
		if p := plain(k); strings.HasPrefix(p, w) || len(p) >= 3 && strings.HasPrefix(w, p) {
			return k
		}
	}
	return ""
}

// distance is the number of letters to insert, delete, replace or swap.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// suggestion is the remedy for an unknown word: what was probably meant, or what
// there is; otherwise is used when there is nothing.
func suggestion(word string, known []string, what, otherwise string) string {
	if k := didYouMean(word, known); k != "" {
		return "did you mean " + k + "?"
	}
	if len(known) == 0 {
		return otherwise
	}
	return what + ": " + list(known)
}

// list writes the words in order, up to a bound.
func list(words []string) string {
	const most = 24
	words = slices.Clone(words)
	if len(words) > most {
		words = append(words[:most], "...")
	}
	return strings.Join(words, ", ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
