// Command fairlead-adapter-pop3 receives mails from POP3 maildrops, in plain text
// or over TLS (RFC 1939, 1734, 2449, 2595, 5034).
//
// It answers for knowing every mail by its UIDL and nothing else, for reading it
// to its very last byte unchanged, for counting a mail as deleted only when the
// server has confirmed the session's end, for holding the maildrop's lock only
// while there is something to do, and for never waiting longer for a server than
// its time-out says. It leaves to the SDK and the runtime when to poll, what was
// delivered already, and what to do after an error. It does not send.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version of the adapter, set at build time.
var version = "0.1.0"

func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "pop3",
		Version: version,
		Summary: "Receives mails from POP3 servers, deleting them after delivery or leaving them there.",
		// The lock of RFC 1939 is off by default in widespread servers, and leaving
		// mails on the server needs one reader in any case.
		Receive: sdk.Polled(openSource, sdk.Exclusive()),
	}
}

func main() { sdk.Serve(adapter()) }
