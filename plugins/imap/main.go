// Command fairlead-adapter-imap receives mails from IMAP mailboxes, in plain text
// or over TLS (RFC 3501, RFC 9051, RFC 4315).
//
// It answers for knowing every mail by its mailbox, UIDVALIDITY and UID, for
// reading it without marking it as seen, for looking at it again before it is
// marked or deleted, for removing no other mail than that, and for never waiting
// longer for a server than its time-out says. It leaves to the SDK and the
// runtime when to poll, what was delivered already, and what to do after an
// error. It does not use IDLE, does not move mails and does not send.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version of the adapter, set at build time.
var version = "0.1.0"

func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "imap",
		Version: version,
		Summary: "Receives mails from IMAP mailboxes, marking, deleting or keeping them after delivery.",
		// Mailboxes have no lock: two readers both take every mail.
		Receive: sdk.Polled(openSource, sdk.Exclusive()),
	}
}

func main() { sdk.Serve(adapter()) }
