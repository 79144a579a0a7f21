package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Item is one generated file or mail.
type Item struct {
	Name    string
	Content []byte
}

// Hash identifies a content.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// oddNames are the shapes of names that scripts and servers stumble over.
var oddNames = []string{
	"plain-%04d.edi", "with space %04d.edi", "-leading-dash-%04d.edi", "it's \"quoted\" %04d.edi",
	"Bestellung-Übergröße-%04d.edi", "注文-%04d.edi", "trailing.dots..%04d", "(brackets)[%04d]{x}.edi", "per%%cent&amp;%04d.edi",
}

// Files returns n files with odd names and sizes from nothing to most bytes: most
// are small, every hundredth is large. The same seed gives the same files.
func Files(seed uint64, n int, most int) []Item {
	rng := rand.New(rand.NewPCG(seed, 1))
	items := make([]Item, n)
	for i := range items {
		size := rng.IntN(min(16<<10, most+1))
		switch {
		case i%100 == 50:
			size = most
		case i%25 == 0:
			size = 0
		case i%20 == 3:
			size = rng.IntN(min(1<<20, most+1))
		}
		items[i] = Item{fmt.Sprintf(oddNames[i%len(oddNames)], i), content(rng, size)}
	}
	return items
}

func content(rng *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			data[i+j] = byte(v >> (8 * j))
		}
	}
	return data
}

// Mails returns n mails.
func Mails(seed uint64, n int) []Item {
	rng := rand.New(rand.NewPCG(seed, 2))
	items := make([]Item, n)
	for i := range items {
		var b bytes.Buffer
		id := fmt.Sprintf("<%d.%d@demo.example>", seed, i)
		fmt.Fprintf(&b, "From: supplier@demo.example\r\nTo: orders@demo.example\r\nSubject: Order %d\r\nMessage-ID: %s\r\n\r\n", i, id)
		for range 1 + rng.IntN(40) {
			fmt.Fprintf(&b, "line %x\r\n.starts with a dot\r\n", rng.Uint64())
		}
		items[i] = Item{id, b.Bytes()}
	}
	return items
}

// Verdict compares what went in with what came out, by content.
type Verdict struct {
	In, Out, Lost, Duplicated int
	// Problems name the first few contents that are lost or doubled.
	Problems []string
}

// OK reports whether everything arrived once.
func (v Verdict) OK() bool { return v.In == v.Out && v.Lost == 0 && v.Duplicated == 0 }

func (v Verdict) String() string {
	return fmt.Sprintf("in %d, out %d, lost %d, duplicated %d", v.In, v.Out, v.Lost, v.Duplicated)
}

// Judge returns the verdict on contents that went in, by name, and the hashes of
// those that came out. Equal contents count as often as they went in.
func Judge(in []Item, out []string) Verdict {
	v := Verdict{In: len(in), Out: len(out)}
	balance, names := map[string]int{}, map[string]string{}
	for _, item := range in {
		h := Hash(item.Content)
		balance[h]++
		names[h] = item.Name
	}
	for _, h := range out {
		balance[h]--
	}
	for h, n := range balance {
		switch {
		case n > 0:
			v.Lost += n
			v.Problems = append(v.Problems, fmt.Sprintf("lost: %q (%s)", names[h], h[:12]))
		case n < 0:
			v.Duplicated -= n
			v.Problems = append(v.Problems, fmt.Sprintf("%d too many: %q (%s)", -n, names[h], h[:12]))
		}
	}
	slices.Sort(v.Problems)
	v.Problems = v.Problems[:min(len(v.Problems), 10)]
	return v
}
