// Package inproc lets sdk/adaptertest serve an adapter inside a test's process,
// where an exit must not end the process. It is not part of the SDK's surface.
package inproc

import (
	"log/slog"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Options are what a process does otherwise.
type Options struct {
	// Exit is called where a process would end at once. Everything of the session
	// is cancelled directly after.
	Exit func(code int)
	Log  *slog.Logger
}

// NewServer is set by package sdk. Its argument is an sdk.Adapter. Each server
// stands for one process: it can Run once.
var NewServer func(adapter any, o Options) (adapterpb.AdapterServer, error)
