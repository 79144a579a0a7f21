package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Operator is what people order about nodes and hosts: a part of [Backend].
type Operator interface {
	// SetNode carries out one of NodeOrders. drain returns when the node owns
	// nothing any more, or ctx ends: then the error says what is still there.
	SetNode(ctx context.Context, name, order string) (*NodeReply, error)
	// SetHost carries out one of HostOrders.
	SetHost(ctx context.Context, name, order string) (*HostStatus, error)
	// Explain says for each node, in a sentence, why it may or may not own the host.
	Explain(ctx context.Context, host string) ([]string, error)
}

// NodeReply says what an order has made of a node.
type NodeReply struct {
	Node string `json:"node"`
	// State is the node's state after the order, as in NodeStatus; "removed" if the
	// cluster knows the node no more.
	State string `json:"state"`
	// Moved are the groups that the node has given away.
	Moved []string `json:"moved"`
}

// Orders about a node. They outlive its restart.
const (
	// NodeDrain gives away all its groups; it takes none.
	NodeDrain = "drain"
	// NodePause lets it keep its groups; it takes no others.
	NodePause = "pause"
	// NodeResume ends drain, pause and quarantine.
	NodeResume = "resume"
	// NodeRemove forgets a node that has ended.
	NodeRemove = "remove"
)

// NodeOrders are the orders about a node that the API takes.
var NodeOrders = []string{NodeDrain, NodePause, NodeResume, NodeRemove}

// Orders about a host.
const (
	// HostStart undoes HostStop.
	HostStart = "start"
	// HostStop ends its handlers, wherever they run, until it is started.
	HostStop = "stop"
	// HostReset forgets the failures of its group and tries a failed one at once.
	HostReset = "reset"
	// HostResume lets a host that was moved to a named node move by itself again.
	HostResume = "resume"
)

// HostOrders are the orders about a host that the API takes.
var HostOrders = []string{HostStart, HostStop, HostReset, HostResume}

const (
	// maxOrderTimeout bounds what a caller may ask an order to wait for.
	maxOrderTimeout = time.Hour
	// orderAnswer is what the client leaves of its own time for the node's answer,
	// which says more than that the time was up.
	orderAnswer = 2 * time.Second
)

// operatorRoutes registers the routes of orders.
func (s *Server) operatorRoutes(mux *http.ServeMux) {
	mux.Handle("/v1/hosts/{name}/explain", s.only(http.MethodGet, requestTimeout, func(r *http.Request) (any, error) {
		return list(s.backend.Explain(r.Context(), r.PathValue("name")))
	}))
	for _, order := range NodeOrders {
		mux.Handle("/v1/nodes/{name}/"+order, s.order(func(r *http.Request) (any, error) {
			reply, err := s.backend.SetNode(r.Context(), r.PathValue("name"), order)
			if err != nil {
				return nil, err
			}
			return NodeReply{Node: reply.Node, State: reply.State, Moved: orEmpty(reply.Moved)}, nil
		}))
	}
	for _, order := range HostOrders {
		mux.Handle("/v1/hosts/{name}/"+order, s.order(func(r *http.Request) (any, error) {
			return s.backend.SetHost(r.Context(), r.PathValue("name"), order)
		}))
	}
}

// order handles an order. The caller may say how long it waits, as ?timeout=10m:
// a drain takes as long as the work under way.
func (s *Server) order(a answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout, err := orderTimeout(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.only(http.MethodPost, timeout, func(r *http.Request) (any, error) {
			// An order has no settings: a body, if there is one, is an empty object.
			if r.ContentLength != 0 {
				if err := decode(r, maxSmallBody, &struct{}{}); err != nil {
					return nil, err
				}
			}
			return a(r)
		}).ServeHTTP(w, r)
	})
}

func orderTimeout(r *http.Request) (time.Duration, error) {
	v := r.URL.Query().Get("timeout")
	if v == "" {
		return changeTimeout, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 || d > maxOrderTimeout {
		return 0, BadRequest("timeout=%q: want a duration such as 90s, of at most %s", v, maxOrderTimeout)
	}
	return d, nil
}

func (s *Server) nodes(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return st.withoutNulls().Nodes, nil
}

// Nodes returns all nodes.
func (c *Client) Nodes(ctx context.Context) ([]NodeStatus, error) {
	return get[[]NodeStatus](ctx, c, "/v1/nodes", nil)
}

// SetNode implements Operator. The node is told how long ctx lasts, up to an hour.
func (c *Client) SetNode(ctx context.Context, name, order string) (*NodeReply, error) {
	var reply NodeReply
	err := c.order(ctx, "/v1/nodes/"+url.PathEscape(name)+"/"+url.PathEscape(order), &reply)
	return &reply, err
}

// SetHost implements Operator. The node is told how long ctx lasts, up to an hour.
func (c *Client) SetHost(ctx context.Context, name, order string) (*HostStatus, error) {
	var reply HostStatus
	err := c.order(ctx, "/v1/hosts/"+url.PathEscape(name)+"/"+url.PathEscape(order), &reply)
	return &reply, err
}

func (c *Client) order(ctx context.Context, path string, reply any) error {
	if end, bounded := ctx.Deadline(); bounded {
		left := time.Until(end)
		if left -= min(orderAnswer, left/5); left > 0 {
			path += "?timeout=" + min(left, maxOrderTimeout).String()
		}
	}
	return c.call(ctx, http.MethodPost, path, struct{}{}, reply)
}

// Explain implements Operator.
func (c *Client) Explain(ctx context.Context, host string) ([]string, error) {
	return get[[]string](ctx, c, "/v1/hosts/"+url.PathEscape(host)+"/explain", nil)
}
