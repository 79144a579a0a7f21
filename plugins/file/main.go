// Command fairlead-adapter-file receives files from a directory and writes files
// into one, on this machine or on a network file system that it has mounted.
//
// It answers for: taking only files that have stopped growing; noticing a file
// that was changed or replaced, and then neither delivering half of it nor deleting
// the newcomer; making a written file appear whole, synced to disk, under its final
// name; never leaving the configured directory, whatever a message's properties
// say.
//
// It leaves to the file system that what was synced stays, and to the cluster that
// only one node reads a directory: a file system offers no lock that all writers
// and readers respect, so receive locations need a clustered host.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version is set by the build.
var version = "0.1.0"

// adapter is what main serves and the conformance tests run.
func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "file",
		Version: version,
		Summary: "Directories of this machine or of a mounted network file system.",
		Receive: sdk.Polled(openSource, sdk.Exclusive()),
		Send:    sdk.Sends(openSink, sdk.Probes()),
	}
}

func main() { sdk.Serve(adapter()) }
