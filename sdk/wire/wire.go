// Package wire joins runtime and adapter processes through go-plugin: the names,
// numbers and limits that both sides must agree on, and the two plugin sets.
//
// It is for the runtime and for package sdk. Authors of adapters need neither it
// nor go-plugin.
package wire

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// ProtocolVersion is the version of the protocol in sdk/proto. It changes only
	// when an old peer could misunderstand a new one.
	ProtocolVersion = 1
	// PluginName is the name under which the Adapter service is dispensed.
	PluginName = "adapter"
	// MaxMessageBytes bounds one gRPC message towards the adapter. Content larger
	// than a few hundred KiB goes through the spool instead.
	MaxMessageBytes = 16 << 20
	// LogLevelEnv may hold the lowest level that an adapter logs: debug, info (the
	// default), warn or error.
	LogLevelEnv = "FAIRLEAD_LOG_LEVEL"
)

// Keywords that the schema of an endpoint's properties may have besides those of
// JSON Schema.
const (
	// ReachKeyword is true at a property that holds network addresses: host,
	// host:port or URLs, separated by commas.
	ReachKeyword = "x-fairlead-reach"
	// ReachPortsKeyword has the ports for addresses that name none: an object whose
	// key "" has the usual one, and whose keys such as "tls=implicit" have the one for
	// endpoints where that property has that value. The ports are strings.
	ReachPortsKeyword = "x-fairlead-default-ports"
	// ReachInsteadKeyword is true at a property that, where it is set, holds the only
	// addresses that the endpoint connects to: a proxy's.
	ReachInsteadKeyword = "x-fairlead-reach-instead"
)

// Exit statuses of an adapter that ends itself.
const (
	// ExitLeaseEnded: the lease's deadline passed without a renewal.
	ExitLeaseEnded = 75
	// ExitOrphaned: standard input was closed, so the runtime is gone.
	ExitOrphaned = 76
)

// Handshake tells a plugin started by a runtime from one started by a person. It
// is no security. The protocol's version is negotiated by [ClientPlugins] and
// [ServerPlugins].
var Handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "FAIRLEAD_ADAPTER",
	MagicCookieValue: "6f1c3f0c-9d52-4c36-a7a5-0d1b7d8e5a10",
}

// ClientPlugins is the runtime's side, for plugin.ClientConfig.VersionedPlugins.
// Dispensing [PluginName] gives an [adapterpb.AdapterClient].
func ClientPlugins() map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{ProtocolVersion: {PluginName: clientPlugin{}}}
}

// ServerPlugins is the adapter's side, for plugin.ServeConfig.VersionedPlugins.
func ServerPlugins(s adapterpb.AdapterServer) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{ProtocolVersion: {PluginName: serverPlugin{server: s}}}
}

// NewServer makes the adapter's gRPC server with the limits of this package.
func NewServer(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(MaxMessageBytes))...)
}

type clientPlugin struct{ plugin.NetRPCUnsupportedPlugin }

var _ plugin.GRPCPlugin = clientPlugin{}

// GRPCClient returns an adapterpb.AdapterClient on conn.
func (clientPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return adapterpb.NewAdapterClient(conn), nil
}

// GRPCServer fails: the runtime serves no adapters.
func (clientPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("wire: this is the client's side")
}

type serverPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server adapterpb.AdapterServer
}

var _ plugin.GRPCPlugin = serverPlugin{}

// GRPCClient fails: an adapter calls nobody.
func (serverPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("wire: this is the server's side")
}

// GRPCServer registers the adapter.
func (p serverPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	adapterpb.RegisterAdapterServer(s, p.server)
	return nil
}
