package config

import (
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
)

// Node is a node file: what one `fairlead run` needs to know about itself and its
// peers. All values are set and checked; paths are absolute.
//
// A relative path in the file is relative to the file's own directory; in the
// environment, in a flag or in an override it is relative to the working
// directory.
type Node struct {
	Node    NodeSection    `json:"node" jsonschema_description:"This node."`
	Listen  ListenSection  `json:"listen" jsonschema_description:"Addresses of this node."`
	Cluster ClusterSection `json:"cluster" jsonschema_description:"The cluster that this node belongs to."`
	TLS     TLSSection     `json:"tls" jsonschema_description:"Mutual TLS between the nodes. Needed as soon as listen.gossip or listen.cluster is not a loopback address."`
	Deploy  string         `json:"deploy,omitempty" jsonschema_description:"Deployment file to deploy at start and whenever it changes: for one node and for development. Default: none."`
	Log     LogSection     `json:"log" jsonschema_description:"The node's own log, on standard error."`

	// Warnings are findings that do not keep the file from being used.
	Warnings Findings `json:"-"`
}

// NodeSection describes the node itself.
type NodeSection struct {
	Name        string            `json:"name,omitempty" jsonschema_description:"Name of the node, unique in the cluster, kept for life: small letters, digits and dashes. Default: the host name up to its first dot."`
	Role        string            `json:"role" jsonschema:"enum=member,enum=witness,default=member" jsonschema_description:"member may own hosts; witness only votes, as the third of two."`
	DataDir     string            `json:"data_dir" jsonschema:"minLength=1,default=/var/lib/fairlead" jsonschema_description:"Directory of this node alone: ledger, spool and lock. Local disk, not a network share."`
	AdapterDirs []string          `json:"adapter_dirs" jsonschema:"default=/usr/lib/fairlead/adapters" jsonschema_description:"Directories with the fairlead-adapter-NAME binaries, the first match wins."`
	Labels      map[string]string `json:"labels,omitempty" jsonschema_description:"Free labels, shown by fairlead node list."`
}

// ListenSection holds the addresses of the node.
type ListenSection struct {
	Gossip  string `json:"gossip" jsonschema:"default=127.0.0.1:7946" jsonschema_description:"host:port for membership, tcp and udp. Peers use it, so it is an address of this machine."`
	Cluster string `json:"cluster" jsonschema:"default=127.0.0.1:7947" jsonschema_description:"host:port for the ledger, leases and delivery between nodes. Peers use it, so it is an address of this machine."`
	HTTP    string `json:"http" jsonschema:"default=127.0.0.1:7948" jsonschema_description:"host:port for API, dashboard and metrics."`
	Socket  string `json:"socket" jsonschema:"minLength=1,default=/run/fairlead/fairlead.sock" jsonschema_description:"Unix socket for the client commands; its path has at most 107 bytes."`
}

// ClusterSection says what cluster the node belongs to.
type ClusterSection struct {
	Name            string   `json:"name" jsonschema:"default=fairlead" jsonschema_description:"Name of the cluster; nodes of another name are refused."`
	BootstrapExpect int      `json:"bootstrap_expect" jsonschema:"minimum=1,maximum=15,default=1" jsonschema_description:"How many nodes found the cluster, the same number on each. 1: this node alone is one."`
	Join            []string `json:"join,omitempty" jsonschema_description:"Gossip addresses (host:port) of nodes to look for; this node's own may stand among them."`
	Profile         string   `json:"profile" jsonschema:"enum=local,enum=lan,enum=wan,default=lan" jsonschema_description:"Times of gossip, ledger and leases together: local for nodes on one machine, lan for one site, wan for several sites. The same on every node."`
	// GossipKey is the raw key, of 16, 24 or 32 bytes, or empty.
	GossipKey sdk.Secret `json:"gossip_key,omitempty" jsonschema_description:"Key that encrypts gossip: 16, 24 or 32 bytes, raw or in base64, best as ${file:/path} or ${env:NAME}. The same on every node. Default: none, gossip is readable."`
}

// TLSSection names the files of mutual TLS; empty names mean no TLS.
type TLSSection struct {
	CA       string `json:"ca,omitempty" jsonschema_description:"PEM file with the certificates that peers must be signed by."`
	Cert     string `json:"cert,omitempty" jsonschema_description:"PEM file with this node's certificate and its chain."`
	Key      string `json:"key,omitempty" jsonschema_description:"PEM file with this node's private key."`
	Insecure bool   `json:"insecure" jsonschema:"default=false" jsonschema_description:"Do without TLS on addresses that are not loopback: anybody on the network can then command the cluster. For closed test networks."`
}

// Enabled reports whether there are certificates.
func (t TLSSection) Enabled() bool { return t.CA != "" }

// LogSection configures the log.
type LogSection struct {
	Level  string `json:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error,default=info" jsonschema_description:"Least level that is written."`
	Format string `json:"format" jsonschema:"enum=text,enum=json,default=text" jsonschema_description:"text for people, json for machines."`
}

// NodeSchema returns the JSON Schema of node files.
func NodeSchema() ([]byte, error) {
	return generate[Node]("Fairlead node file", "What one node needs to know about itself and its peers.")
}

var nodeSchema = sync.OnceValues(func() (*schema, error) {
	data, err := NodeSchema()
	if err != nil {
		return nil, err
	}
	return compileSchema(data)
})
