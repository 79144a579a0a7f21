package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/guardian"
	"github.com/fairlead-io/fairlead/runtime/transport"
)

// stopReserve is what a node takes at most, after its time for draining, to close.
const stopReserve = 20 * time.Second

// guard makes this process the guardian of the node. What is wrong with the settings is
// found before anything is started.
func (c *cli) guard(cmd *cobra.Command, f runFlags) error {
	cfg, log, err := c.nodeSettings(cmd.Flags(), f.file)
	if err != nil {
		return err
	}
	log = log.With("component", "guardian")
	messenger := &guardian.Messenger{}
	secured, err := peerTLS(cfg.TLS)
	if err != nil {
		return err
	}
	messenger.SetTLS(secured)
	code, err := guardian.Run(cmd.Context(), guardian.Config{
		Node: cfg.Node.Name, StopLimit: f.patience + stopReserve, Log: log,
		Prepare: messenger.Prepare, Starting: func() { refreshTLS(messenger, cfg.TLS, log) },
	})
	if err != nil {
		return fmt.Errorf("guardian of node %s: %w", cfg.Node.Name, err)
	}
	if code != exitDone {
		return &statusError{code}
	}
	return nil
}

func peerTLS(t config.TLSSection) (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	return transport.LoadTLS(t.CA, t.Cert, t.Key)
}

// refreshTLS reads what a runtime that starts now will read.
func refreshTLS(m *guardian.Messenger, t config.TLSSection, log *slog.Logger) {
	secured, err := peerTLS(t)
	if err != nil {
		log.Warn("going on with the certificate of the last start", "error", err)
		return
	}
	m.SetTLS(secured)
}
