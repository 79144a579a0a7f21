package cluster

import (
	"slices"
	"testing"
)

func TestProcessesAreKnownByTheirPlaceInTheTree(t *testing.T) {
	run := []string{"/bin/fairlead", "run", "-c", "node.yaml"}
	ftp := []string{"/lib/fairlead-adapter-ftp"}
	elsewhere := []proc{{pid: 1, args: []string{"init"}}, {pid: 90, parent: 1, args: run}, {pid: 91, parent: 90, args: ftp}}
	for name, row := range map[string]struct {
		all  []proc
		want []Process
	}{
		"with a guardian": {
			all:  []proc{{pid: 10, parent: 1, args: run}, {pid: 11, parent: 10, args: run}, {pid: 12, parent: 11, args: ftp}},
			want: []Process{{PID: 10, Part: Guardian}, {PID: 11, Part: Runtime}, {PID: 12, Part: Plugin, Adapter: "ftp"}},
		},
		"without": {
			all:  []proc{{pid: 10, parent: 1, args: run}, {pid: 12, parent: 10, args: ftp}},
			want: []Process{{PID: 10, Part: Runtime}, {PID: 12, Part: Plugin, Adapter: "ftp"}},
		},
		"a plugin that its runtime has left behind": {
			all:  []proc{{pid: 10, parent: 1, args: run}, {pid: 11, parent: 10, args: run}, {pid: 12, parent: 10, args: ftp}},
			want: []Process{{PID: 10, Part: Guardian}, {PID: 11, Part: Runtime}, {PID: 12, Part: Plugin, Adapter: "ftp"}},
		},
		"not there": {},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classify(10, append(slices.Clone(elsewhere), row.all...)); !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}
