// Command fairlead-adapter-ftp receives files from FTP servers and sends files to
// them, in plain text or over TLS (RFC 959, 2428, 3659, 4217), always in passive
// and binary mode.
//
// It answers for taking only files that are complete and unchanged, for deleting
// only the version that was read, for making what it sends appear whole under its
// final name, and for never waiting longer for a server than its time-out says.
// It leaves to the SDK and the runtime when to poll, what was delivered already,
// and what to do after an error. It does not do active mode, SFTP, ASCII
// transfers or recursion into directories.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version of the adapter, set at build time.
var version = "0.1.0"

func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "ftp",
		Version: version,
		Summary: "Receives files from FTP and FTPS servers and sends files to them.",
		// FTP has no locks: two readers of a directory both take every file.
		Receive: sdk.Polled(openSource, sdk.Exclusive()),
		Send:    sdk.Sends(openSink, sdk.Probes()),
	}
}

func main() { sdk.Serve(adapter()) }
