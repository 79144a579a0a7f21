package main

import (
	"log/slog"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/node"
)

// newNode makes the real node.
func newNode(file *config.Node, log *slog.Logger, a attachments) (daemon, error) {
	return node.New(node.Config{
		File: file, Version: buildVersion().Version, Log: log,
		Certifier: a.Link.Certifier(), Peers: a.Link.SetPeers,
		Lock: a.Lock.File(), LockID: a.Lock.ID(),
	})
}
