package cluster

import "testing"

func TestTheVerdictSeesLossAndDoubling(t *testing.T) {
	in := Files(1, 40, 4096)
	hashes := func() (out []string) {
		for _, f := range in {
			out = append(out, Hash(f.Content))
		}
		return out
	}
	if v := Judge(in, hashes()); !v.OK() {
		t.Errorf("all there: %v", v)
	}
	if v := Judge(in, hashes()[1:]); v.OK() || v.Lost != 1 {
		t.Errorf("one missing: %v", v)
	}
	if v := Judge(in, append(hashes(), Hash(in[7].Content))); v.OK() || v.Duplicated != 1 {
		t.Errorf("one doubled: %v", v)
	}
	// A loss and a doubling do not cancel out.
	swapped := append(hashes()[1:], Hash(in[7].Content))
	if v := Judge(in, swapped); v.OK() || v.Lost != 1 || v.Duplicated != 1 {
		t.Errorf("one missing and one doubled: %v", v)
	}
}

func TestGeneratedFilesCoverTheOddCases(t *testing.T) {
	files := Files(7, 500, 8<<20)
	empty, large := 0, 0
	names := map[string]bool{}
	for _, f := range files {
		names[f.Name] = true
		switch len(f.Content) {
		case 0:
			empty++
		case 8 << 20:
			large++
		}
	}
	if len(names) != 500 || empty == 0 || large == 0 {
		t.Errorf("%d names, %d empty, %d of 8 MiB", len(names), empty, large)
	}
}
