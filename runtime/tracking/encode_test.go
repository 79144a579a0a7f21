package tracking

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func full() Step {
	return Step{
		At: noon, Message: "0193b5a2-7c1e-7d3a-9b1c-2f4e5d6a7b8c", Location: "orders", Key: "/in/a.xml", Kind: Received,
		Node: "node-a", Port: "erp", Attempt: 3, Size: 1 << 40, Text: "connection refused", Name: "a.xml",
		Context: map[string]string{"ftp.name": "a.xml", "empty": "", "": "nameless"},
	}
}

// roundTrip writes the step and reads it again.
func roundTrip(t interface {
	Helper()
	Fatalf(string, ...any)
}, st Step) Step {
	t.Helper()
	b := appendFrame([]byte("before"), &st)[len("before"):]
	if n := stamp(b); n != len(b) || n > frameHeader+maxPayload {
		t.Fatalf("the frame has %d bytes, its length says %d", len(b), n)
	}
	payload, length, err := frame(b)
	if err != nil || length != len(b) {
		t.Fatalf("frame: %d of %d bytes, %v", length, len(b), err)
	}
	got, err := decodeStep(payload)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	h, err := decodeHead(payload)
	if err != nil || string(h.message) != got.Message || string(h.location) != got.Location || h.at != got.At.UnixNano() {
		t.Fatalf("head: %+v, %v", h, err)
	}
	return got
}

func TestStepRoundTrip(t *testing.T) {
	for _, st := range []Step{full(), {At: noon, Message: "m"}, {At: noon, Message: "m", Kind: Settled}} {
		if got := roundTrip(t, st); !reflect.DeepEqual(got, st) {
			t.Errorf("got  %+v\nwant %+v", got, st)
		}
	}
	st := full()
	st.Kind = Sent
	if got := roundTrip(t, st); got.Context != nil {
		t.Errorf("context is kept with sent: %v", got.Context)
	}
}

func TestAnyStepFitsItsLimits(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.IntRange(0, 20_000), func(n int) string { return strings.Repeat("ä", n) }))
	rapid.Check(t, func(t *rapid.T) {
		st := Step{
			At: time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(), Message: text.Draw(t, "message"), Location: text.Draw(t, "location"),
			Key: text.Draw(t, "key"), Kind: Received, Node: text.Draw(t, "node"), Port: text.Draw(t, "port"),
			Text: text.Draw(t, "text"), Name: text.Draw(t, "name"),
			Attempt: rapid.IntRange(0, 1<<31-1).Draw(t, "attempt"), Size: rapid.Int64Range(0, 1<<62).Draw(t, "size"),
			Context: rapid.MapOf(text, text).Draw(t, "context"),
		}
		got := roundTrip(t, st)
		for _, c := range []struct {
			got, want string
			limit     int
		}{
			{got.Message, st.Message, maxName}, {got.Location, st.Location, maxName}, {got.Key, st.Key, maxKey},
			{got.Node, st.Node, maxName}, {got.Port, st.Port, maxName}, {got.Text, st.Text, maxText}, {got.Name, st.Name, maxKey},
		} {
			kept, marked := strings.CutSuffix(c.got, cutMark)
			whole := c.got == c.want && len(c.want) <= c.limit
			if cut := marked && len(c.got) <= c.limit && len(c.want) > c.limit && strings.HasPrefix(c.want, kept) && utf8.ValidString(kept); !whole && !cut {
				t.Fatalf("%d bytes of %d within %d: …%q", len(c.got), len(c.want), c.limit, c.got[max(0, len(c.got)-20):])
			}
		}
		if got.Attempt != st.Attempt || got.Size != st.Size || !got.At.Equal(st.At) {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestContextIsCutWithAMark(t *testing.T) {
	st := full()
	st.Context = map[string]string{"long": strings.Repeat("x", 10_000)}
	for i := range 400 {
		st.Context[fmt.Sprintf("p%03d", i)] = strings.Repeat("y", 40)
	}
	got := roundTrip(t, st).Context
	if v := got["long"]; len(v) != maxValue || !strings.HasSuffix(v, cutMark) {
		t.Errorf("long has %d bytes", len(v))
	}
	bytes := 0
	for k, v := range got {
		bytes += len(k) + len(v)
	}
	if want := fmt.Sprintf("%d more properties", len(st.Context)-len(got)+1); got[cutKey] != want || bytes > maxContext || bytes < maxContext*8/10 {
		t.Errorf("%d bytes are kept, %q, want %q", bytes, got[cutKey], want)
	}
	if got["p000"] == "" || got["p399"] != "" {
		t.Error("what is left out is not the last in order")
	}
}

func TestManyTinyPropertiesFit(t *testing.T) {
	st := full()
	st.Context = make(map[string]string)
	for i := range 10_000 {
		st.Context[string([]byte{byte(i), byte(i >> 8)})] = ""
	}
	if got := roundTrip(t, st).Context; len(got) < 1000 || got[cutKey] == "" {
		t.Errorf("%d properties are kept", len(got))
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	const secret = "hunter2"
	st := full()
	st.Context = map[string]string{"ftp.name": "a.xml"}
	hidden := []string{"password", "smtp.Password", "X-API-TOKEN", "clientSecret", "Proxy-Authorization", "Set-Cookie", "credentials", "db_passwd"}
	for _, name := range hidden {
		st.Context[name] = secret
	}
	for _, value := range hidden { // only names tell
		st.Context["name."+fmt.Sprint(len(st.Context))] = value
	}
	w := newWorld(t, nil)
	w.Note(st)
	got := w.query(Query{Message: st.Message})[0].Context
	for _, name := range hidden {
		if got[name] != notKept {
			t.Errorf("%s: %q", name, got[name])
		}
	}
	if got["ftp.name"] != "a.xml" || len(got) != len(st.Context) {
		t.Errorf("got %v", got)
	}
	for _, path := range w.files() {
		if data := readFile(t, path); strings.Contains(string(data), secret) {
			t.Error("the secret is on the disk")
		}
	}
}

func FuzzDecodeStep(f *testing.F) {
	for _, st := range []Step{full(), {}, {Message: "m", Kind: Sent}} {
		b := appendFrame(nil, &st)
		stamp(b)
		f.Add(b[frameHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		st, err := decodeStep(payload)
		h, headErr := decodeHead(payload)
		if err != nil {
			return
		}
		if headErr != nil || string(h.message) != st.Message || string(h.location) != st.Location {
			t.Fatalf("head %+v, %v; step %+v", h, headErr, st)
		}
		if again := roundTrip(t, st); !again.At.Equal(st.At) || len(st.Message) <= maxName && again.Message != st.Message {
			t.Fatalf("got %+v, want %+v", again, st)
		}
	})
}

func FuzzOpenSegment(f *testing.F) {
	st := full()
	growing := appendFrame([]byte(segmentMagic), &st)
	stamp(growing[len(segmentMagic):])
	f.Add(growing, []byte{})
	f.Add(append(growing, growing[len(segmentMagic):]...), []byte{0, 1, 2})
	f.Add(closedSegment(f), []byte{})
	f.Add([]byte(segmentMagic+"\x10\x00\x00\x00"), []byte("xx"))
	f.Fuzz(func(t *testing.T, data, more []byte) {
		w := newWorld(t, small)
		w.close()
		writeFile(t, w.segmentPath(1), append(data, more...))
		w.open()
		// Whatever the file is, it harms nothing that comes later.
		w.Note(Step{Message: "after", Location: "orders", Kind: Received})
		for _, r := range w.query(Query{Limit: MaxLimit, Since: time.Unix(0, 0)}) {
			if len(r.Steps) == 0 {
				t.Fatalf("got %+v", r)
			}
		}
		if got := w.query(Query{Message: "after"}); len(got) != 1 || w.Lost() != 0 {
			t.Fatalf("got %+v, lost %d", got, w.Lost())
		}
		w.query(Query{Location: "orders"})
	})
}
