package membership

import (
	"math"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

func drawMeta(t *rapid.T, longest int) Meta {
	text := rapid.StringN(-1, -1, longest)
	return Meta{
		Incarnation: text.Draw(t, "incarnation"), ClusterAddress: text.Draw(t, "address"),
		Role: text.Draw(t, "role"), Version: text.Draw(t, "version"),
		Expect: rapid.IntMin(0).Draw(t, "expect"), HasState: rapid.Bool().Draw(t, "state"), Draining: rapid.Bool().Draw(t, "draining"),
		ClusterID: text.Draw(t, "cluster"), Disk: text.Draw(t, "disk"),
	}
}

func TestMetaComesBackAsItWasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawMeta(t, 100)
		got, err := decodeMeta(want.encode(memberlist.MetaMaxSize))
		if err != nil || got != want {
			t.Fatalf("got %+v (%v), want %+v", got, err, want)
		}
	})
}

func TestMetaThatDoesNotFitIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMeta(t, 300)
		whole := m.encode(math.MaxInt)
		if err := m.check(); (err == nil) != (len(whole) <= memberlist.MetaMaxSize) {
			t.Fatalf("%d bytes: %v", len(whole), err)
		}
		limit := rapid.IntRange(1, 2000).Draw(t, "limit")
		if b := m.encode(limit); len(b) > limit {
			t.Fatalf("%d bytes, limit %d", len(b), limit)
		} else if _, err := decodeMeta(b); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnreadableMetaIsAnError(t *testing.T) {
	good := Meta{Incarnation: "i", Expect: 300}.encode(memberlist.MetaMaxSize)
	for name, b := range map[string][]byte{
		"empty": nil, "other format": {2, 1}, "cut in a text": good[:3], "cut in a number": good[:len(good)-1], "cut tag": {metaFormat, 0x80},
	} {
		if m, err := decodeMeta(b); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
}

func TestFieldsOfLaterVersionsAreSkipped(t *testing.T) {
	b := Meta{Incarnation: "i", Draining: true}.encode(memberlist.MetaMaxSize)
	b = append(b, 15<<3|2, 3, 'n', 'e', 'w') // field 15, text
	b = append(b, 14<<3, 9)                  // field 14, number
	b = append(b, 13<<3|5, 1, 2, 3, 4)       // field 13, four bytes
	got, err := decodeMeta(b)
	if want := (Meta{Incarnation: "i", Draining: true}); err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add([]byte{})
	f.Add(Meta{Incarnation: "i", ClusterAddress: "127.0.0.1:7300", Role: "member", Version: "1", Expect: 3, HasState: true, Draining: true}.encode(512))
	f.Add([]byte{metaFormat, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{metaFormat, 5 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := decodeMeta(b)
		if err != nil {
			return
		}
		if first.Expect < 0 {
			t.Fatalf("a negative number of nodes: %+v", first)
		}
		again, err := decodeMeta(first.encode(math.MaxInt))
		if err != nil || again != first {
			t.Errorf("%+v became %+v (%v)", first, again, err)
		}
	})
}

func TestNodeThatSaysTooMuchIsToldSo(t *testing.T) {
	long := strings.Repeat("v", memberlist.MetaMaxSize)
	if _, err := Start(Config{Node: "a", Address: "127.0.0.1:0", Profile: "local", Meta: Meta{Version: long}}); err == nil {
		t.Error("it started")
	}
	m := gossip(t, Config{Node: "a", Meta: Meta{Version: "1"}})
	if err := m.Update(func(m *Meta) { m.Version = long }); err == nil || !strings.Contains(err.Error(), "512") {
		t.Errorf("Update = %v", err)
	}
	if self, _ := m.Member("a"); self.Version != "1" {
		t.Errorf("it says %q", self.Version)
	}
	usual := Meta{
		Incarnation: strings.Repeat("i", 36), ClusterAddress: strings.Repeat("h", 253) + ":65535", Role: "witness",
		Version: "v1.22.333-rc.4+0123456789ab.dirty", Expect: 5, HasState: true, Draining: true,
	}
	if err := usual.check(); err != nil {
		t.Errorf("the longest host name does not fit: %v", err)
	}
}
