// Command fairlead-adapter-queue receives from and sends to message queues. This
// version speaks to one kind of broker, NATS with JetStream.
//
// It answers for: publishing with the message's ID, so that the broker
// deduplicates, and with a confirmation of the stream; telling from the stream
// whether a message has arrived; consuming through a durable pull consumer with
// acknowledgements that the broker confirms. A message is acknowledged only after
// its delivery is settled; until then the broker keeps it, whatever happens to
// this process.
//
// It leaves to the broker: storing, replication, and syncing to disk before it
// acknowledges. It leaves to the SDK: concurrency of sends, back-off, the lease.
package main

import "github.com/fairlead-io/fairlead/sdk"

// version is set by the build.
var version = "0.1.0"

// adapter is what main serves and the conformance tests run.
func adapter() sdk.Adapter {
	return sdk.Adapter{
		Name:    "queue",
		Version: version,
		Summary: "Message queues: NATS JetStream streams and consumers.",
		Receive: sdk.Pushed(openSource),
		Send:    sdk.Sends(openSink, sdk.Probes()),
	}
}

func main() { sdk.Serve(adapter()) }
