// Command fairlead-adapter-sftp receives files from SFTP servers and sends files to
// them: version 3 of the SSH File Transfer Protocol (draft-ietf-secsh-filexfer-02),
// which OpenSSH and most others speak, over SSH (RFC 4251 to 4254).
//
// It answers for talking to the very server whose host key is configured; for taking
// only files that are complete and unchanged, and deleting only the version that was
// read; for making what it sends appear whole under its final name; and for never
// waiting longer for a server than its time-out says. It leaves to the SDK and the
// runtime when to poll, what was delivered already, and what to do after an error.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version of the adapter, set at build time.
var version = "0.1.0"

func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "sftp",
		Version: version,
		Summary: "Receives files from SFTP servers (SSH) and sends files to them.",
		// SFTP has no locks that servers agree on: two readers of a directory both take
		// every file.
		Receive: sdk.Polled(openSource, sdk.Exclusive()),
		Send:    sdk.Sends(openSink, sdk.Probes()),
	}
}

func main() { sdk.Serve(adapter()) }
