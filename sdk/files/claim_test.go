package files

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

func owner(epoch uint64) *Claims {
	return NewClaims(sdk.Env{Cluster: "c1", Endpoint: "orders", Epoch: epoch})
}

func sift(t *testing.T, f *Filter, c *Claims, names ...string) []Name {
	t.Helper()
	return f.Sift("", names, c)
}

func TestAClaimIsKnownByTheFilesOwnName(t *testing.T) {
	f, c := filter(t, func(*Selection) {}), owner(7)
	for _, name := range []string{"a.edi", "a-b-c.edi", "-", "caf\xe9", "a\n\"b"} {
		claimed, err := c.Path(name, name+"|1|x")
		if err != nil {
			t.Fatal(err)
		}
		got := sift(t, f, c, claimed)[0]
		if got != (Name{Path: name, At: claimed}) {
			t.Errorf("%q is claimed as %q, and listed as %+v", name, claimed, got)
		}
	}
	deep, err := c.Path("in/de/a.edi", "k")
	if err != nil || !strings.HasPrefix(deep, "in/de/fairlead-claim-") {
		t.Errorf("a file of a subdirectory is claimed as %q, %v; want it in the same directory", deep, err)
	}
	if got := f.Sift("in/de", []string{strings.TrimPrefix(deep, "in/de/")}, c)[0]; got != (Name{Path: "in/de/a.edi", At: deep}) {
		t.Errorf("it is listed as %+v", got)
	}
}

func TestClaimsOfOthersAreLeftAlone(t *testing.T) {
	f := filter(t, func(*Selection) {})
	claimed := func(c *Claims) string {
		path, err := c.Path("a.edi", "k")
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, row := range map[string]struct{ base, why string }{
		"a dead owner's":       {claimed(owner(6)), ""},
		"this owner's":         {claimed(owner(7)), ""},
		"a later owner's":      {claimed(owner(8)), "epoch 8, and this owner's is 7"},
		"another location's":   {claimed(NewClaims(sdk.Env{Cluster: "c1", Endpoint: "invoices", Epoch: 7})), "another receive location"},
		"another cluster's":    {claimed(NewClaims(sdk.Env{Cluster: "c2", Endpoint: "orders", Epoch: 7})), "another cluster"},
		"nothing of the kind":  {"fairlead-claim-x.claim", ""},
		"an epoch of no sense": {"fairlead-claim-x-y-z-a.edi.claim", ""},
	} {
		why := sift(t, f, owner(7), row.base)[0].Rejected
		if (why == "") != (row.why == "") || !strings.Contains(why, row.why) {
			t.Errorf("%s: rejected for %q, want %q", name, why, row.why)
		}
	}
}

func TestClaimsDifferByEpochAndVersion(t *testing.T) {
	seen := map[string]string{}
	for epoch := range uint64(3) {
		for _, key := range []string{"a.edi|1|x", "a.edi|2|x", "b"} {
			path, err := owner(epoch).Path("a.edi", key)
			if err != nil {
				t.Fatal(err)
			}
			if of := seen[path]; of != "" {
				t.Errorf("%s under epoch %d and %s have one name, %s", key, epoch, of, path)
			}
			seen[path] = key
		}
	}
}

// Whoever has a listing in hand that is older than the claim finds the file all the same.
func TestWhereAFileIsNow(t *testing.T) {
	f, c := filter(t, func(*Selection) {}), owner(7)
	claimed, err := c.Path("a", "k")
	if err != nil {
		t.Fatal(err)
	}
	at := func(want string) {
		t.Helper()
		if got := c.Now("a", "a", "k"); got != want {
			t.Errorf("it is at %q, want %q", got, want)
		}
	}
	at("a")
	c.Made(claimed)
	at(claimed)
	c.Forget("a", "k")
	at("a")
	// A listing that shows the claim is not in everybody's hands at once.
	c.Made(claimed)
	sift(t, f, c, claimed)
	at(claimed)
}

func TestANameThatIsTooLongToBeClaimedSaysSo(t *testing.T) {
	_, err := owner(7).Path(strings.Repeat("x", 230), "k")
	if !sdk.IsPermanent(err) || !strings.Contains(err.Error(), "claim: false") {
		t.Errorf("error %v, want a permanent one with the remedy", err)
	}
}

func TestAFileIsNotGoneWhileAClaimHoldsThisVersion(t *testing.T) {
	former, c := owner(6), owner(7)
	claimed, err := former.Path("in/a", "in/a|1")
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Values([]string{"other", path.Base(claimed)})
	if !c.Hold(names, "in/a", "in/a|1") {
		t.Error("the former owner's claim is not seen")
	}
	if c.Hold(names, "in/a", "in/a|2") || c.Hold(names, "in/b", "in/a|1") {
		t.Error("it is taken for one of another file")
	}
	if NewClaims(sdk.Env{Endpoint: "another"}).Hold(names, "in/a", "in/a|1") {
		t.Error("it is taken for one of another location")
	}
}

// A directory that is read while a file in it is renamed may show neither name.
func TestAListingThatLacksWhatWasThereIsMadeTwice(t *testing.T) {
	c := owner(1)
	var listings [][]File
	list := func() ([]File, error) {
		next := listings[0]
		listings = listings[1:]
		return next, nil
	}
	steady := func(what, want string, from ...string) {
		t.Helper()
		for _, names := range from {
			var listed []File
			for name := range strings.FieldsSeq(names) {
				listed = append(listed, File{Name: name})
			}
			listings = append(listings, listed)
		}
		listed, err := Steady(c, list, func(f File) File { return f })
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range listed {
			got = append(got, f.Name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: listed %q, want %q", what, got, want)
		}
		if len(listings) > 0 {
			t.Errorf("%s: %d listings too few", what, len(listings))
			listings = nil
		}
	}
	steady("the first listing", "a b c", "a b", "a c")
	steady("nothing is missing", "a b c d", "a b c d")
	steady("one is missing by chance", "a b c d", "a b c", "a b c d")
	steady("one is gone", "a b d", "a b d", "a b d")
	c.Forget("a", "a")
	steady("one was settled", "b d", "b d")
	steady("another is gone", "b", "b", "b")
}
