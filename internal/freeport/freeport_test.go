package freeport

import (
	"errors"
	"net"
	"sync"
	"testing"
)

func TestNoPortIsGivenTwice(t *testing.T) {
	const takers, each = 8, 20
	var mu sync.Mutex
	var wg sync.WaitGroup
	owned := map[int]bool{}
	for range takers {
		wg.Go(func() {
			for range each {
				first, release, err := Take(Most)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(release)
				mu.Lock()
				for port := first; port < first+Most; port++ {
					if owned[port] {
						t.Errorf("port %d was given twice", port)
					}
					owned[port] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestPortsCanBeListenedOnAndGivenBack(t *testing.T) {
	first, release, err := Take(1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address(first))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	release()
	release()
	guard, err := net.Listen("tcp", address(first+Most))
	if err != nil {
		t.Fatalf("the block is still taken after its release: %v", err)
	}
	guard.Close()
}

func TestTakeRefusesWhatDoesNotFitABlock(t *testing.T) {
	for _, n := range []int{0, -1, Most + 1} {
		if _, _, err := Take(n); err == nil {
			t.Errorf("Take(%d) succeeds", n)
		}
	}
}

func TestTheSystemsOwnRangeIsLeftAlone(t *testing.T) {
	for _, tc := range []struct {
		file      string
		low, high int
	}{
		{"32768\t60999\n", lowest, highest},
		{"16000 65535", lowest, 15_999},
		{"9000 50000", 50_001, 65_535},
		{"1024 65535", lowest, highest},
		{"nonsense", lowest, highest},
	} {
		low, high := span(func(string) ([]byte, error) { return []byte(tc.file), nil })
		if low != tc.low || high != tc.high {
			t.Errorf("%q: %d to %d, want %d to %d", tc.file, low, high, tc.low, tc.high)
		}
	}
	if low, high := span(func(string) ([]byte, error) { return nil, errors.New("no such file") }); low != lowest || high != highest {
		t.Errorf("without the file: %d to %d", low, high)
	}
}
