package api

import (
	"context"
	"net/http"
	"time"
)

// Exchange is what people ask and order about messages, receive locations, send
// ports and routes: a part of [Backend]. Methods may be called from
// several goroutines, and end with their context.
//
// What arrives here was checked by the Server: filters compile, states and orders are
// known ones, and the IDs of messages are whole.
type Exchange interface {
	// Messages returns what the filter matches, oldest first, from every node, as
	// MessageFilter.Matcher understands it. It may leave context and history in them,
	// which a condition may ask for: the Server takes them out.
	Messages(ctx context.Context, f MessageFilter) (*MessageList, error)
	// Message returns one message with its context and history, also one whose fate
	// is final, as long as its history is kept. The error of one that nobody knows is
	// NotFound.
	Message(ctx context.Context, id string) (*Message, error)
	// ResumeMessages lets suspended messages go on, each by itself, and returns when
	// that is committed; sending them again then takes its time. What cannot go on is
	// passed over and named in the reply, unknown messages too; it is no error.
	ResumeMessages(ctx context.Context, o MessageOrder) (*OrderReply, error)
	// DiscardMessages gives messages up, as ResumeMessages resumes them: they go to no
	// other port, and are settled at their source.
	DiscardMessages(ctx context.Context, o MessageOrder) (*OrderReply, error)

	Location(ctx context.Context, name string) (*LocationStatus, error)
	// SetLocation carries out one of LocationOrders and returns what it has made of
	// the location.
	SetLocation(ctx context.Context, name, order string) (*LocationStatus, error)
	Port(ctx context.Context, name string) (*PortStatus, error)
	// SetPort carries out one of PortOrders and returns what it has made of the port.
	SetPort(ctx context.Context, name, order string) (*PortStatus, error)

	// TestRoute says where a message with these properties would go. Nothing is sent.
	TestRoute(ctx context.Context, r RouteRequest) (*RouteReply, error)
}

// Kinds of [Step], in the order in which a message takes them.
const (
	StepReceived  = "received"  // the item was taken from its source
	StepRouted    = "routed"    // it goes to Port; a step for each port
	StepSent      = "sent"      // Port has confirmed it
	StepFailed    = "failed"    // an attempt at Port ended with the error in Text
	StepSuspended = "suspended" // kept for a person's decision; Text says why
	StepResumed   = "resumed"   // a person lets it go on
	StepDiscarded = "discarded" // a person gave it up
	StepSettled   = "settled"   // the source has confirmed that the item is done with
)

// Step is one thing that happened to a message.
type Step struct {
	At time.Time `json:"at"`
	// Kind is one of the Step constants.
	Kind string `json:"kind"`
	// Node is the node that took the step.
	Node string `json:"node"`
	// Port is the send port concerned. Empty: the message as a whole.
	Port string `json:"port,omitempty"`
	// Text is the error or the reason, for people.
	Text string `json:"text,omitempty"`
	// Size is the content's, in bytes; 0 where it is not known.
	Size int64 `json:"size,omitempty"`
	// Attempt counts the attempts at Port from 1; 0 where there is none.
	Attempt int `json:"attempt,omitempty"`
}

// Attempt is an attempt at sending that failed.
type Attempt struct {
	At    time.Time `json:"at"`
	Port  string    `json:"port"`
	Error string    `json:"error"`
}

// MessageList is the answer of GET /v1/messages.
type MessageList struct {
	Messages []Message `json:"messages"`
	// Truncated says that more messages match than the filter's limit let through.
	Truncated bool `json:"truncated"`
}

// MessageOrder is the body of POST /v1/messages/resume and of .../discard. It names
// the messages by their IDs or by a filter, and not by both.
type MessageOrder struct {
	// IDs are at most MaxMessageIDs. Each may be shortened to its first characters, at
	// least minShortID of them, if only one message begins so.
	IDs []string `json:"ids,omitempty"`
	// Filter chooses among the suspended messages, all that match: its Limit does not
	// apply, and no other state or history can be asked for. An empty filter means all
	// suspended messages.
	Filter *MessageFilter `json:"filter,omitempty"`
	// Port is where resumed messages go instead of the ports that have not confirmed
	// them. Empty: where they were to go, or where routes send them now if none did
	// before. Discarding knows no port.
	Port string `json:"port,omitempty"`
}

// MaxMessageIDs is how many messages one order may name.
const MaxMessageIDs = 1000

// OrderReply says what became of an order about messages.
type OrderReply struct {
	// Done is how many messages it was carried out for.
	Done int `json:"done"`
	// Skipped are those it was not carried out for, and why.
	Skipped []SkippedMessage `json:"skipped"`
}

// SkippedMessage is a message that an order passed over.
type SkippedMessage struct {
	ID string `json:"id"`
	// Reason is a sentence for people, such as "it is not suspended any more".
	Reason string `json:"reason"`
}

// Orders about a receive location. Start and stop outlive nodes and deployments.
const (
	// LocationStart undoes LocationStop.
	LocationStart = "start"
	// LocationStop takes nothing new from its source; what is under way is finished.
	LocationStop = "stop"
	// LocationPoll looks at the source now, whatever its schedule says; outside its
	// window and when it is stopped it is refused.
	LocationPoll = "poll"
)

// LocationOrders are the orders about a receive location that the API takes.
var LocationOrders = []string{LocationStart, LocationStop, LocationPoll}

// Orders about a send port. They outlive nodes and deployments.
const (
	// PortStart undoes PortStop.
	PortStart = "start"
	// PortStop sends nothing through it: its messages wait, and use up no attempts.
	PortStop = "stop"
)

// PortOrders are the orders about a send port that the API takes.
var PortOrders = []string{PortStart, PortStop}

// RouteRequest is the body of POST /v1/routes/test: a message that is not there.
type RouteRequest struct {
	// Location is the receive location it would come from.
	Location string `json:"location"`
	// Adapter is that location's. Empty: what the deployment says.
	Adapter string `json:"adapter,omitempty"`
	// Context are its properties, such as "ftp.name".
	Context map[string]string `json:"context,omitempty"`
	// Source is the text of a deployment file to test, and Name its file name: findings
	// name it, and its extension tells the format (default deployment.yaml). Empty: the
	// running deployment. It is checked but not deployed.
	Source string `json:"source,omitempty"`
	Name   string `json:"name,omitempty"`
}

// RouteReply says where a message would go.
type RouteReply struct {
	// To are the send ports, in the order of the rules that name them. None: it would
	// be suspended.
	To []string `json:"to"`
	// Reason says in words what decided, such as "the location's own `to`".
	Reason string `json:"reason"`
	// Rules are all routes in the order of the file, matching or not. They are not
	// asked, and there are none here, where the location itself says `to`.
	Rules []RouteRule `json:"rules"`
}

// RouteRule is one route, and what it says to a message.
type RouteRule struct {
	// Index counts the deployment's routes from 0.
	Index int `json:"index"`
	// Name is the route's, if it has one.
	Name string `json:"name"`
	// When is its condition in CEL. Empty: it matches everything.
	When    string   `json:"when"`
	To      []string `json:"to"`
	Matched bool     `json:"matched"`
	// Error says why the condition could not be answered for this message, such as a
	// property that it has not. It then does not match.
	Error string `json:"error,omitempty"`
}

var _ Exchange = (*Client)(nil)

// asking makes an answer of what is asked of the exchange.
func (s *Server) asking(a func(*http.Request, Exchange) (any, error)) answer {
	return func(r *http.Request) (any, error) { return a(r, s.backend) }
}

// exchangeRoutes registers the routes of messages, locations, ports and routes.
func (s *Server) exchangeRoutes(mux *http.ServeMux) {
	get := func(path string, a func(*http.Request, Exchange) (any, error)) {
		mux.Handle(path, s.only(http.MethodGet, requestTimeout, s.asking(a)))
	}
	post := func(path string, a func(*http.Request, Exchange) (any, error)) {
		mux.Handle(path, s.only(http.MethodPost, changeTimeout, s.asking(a)))
	}
	get("/v1/messages", listMessages)
	get("/v1/messages/{id}", showMessage)
	post("/v1/messages/resume", func(r *http.Request, x Exchange) (any, error) {
		return orderMessages(r, x, x.ResumeMessages, true)
	})
	post("/v1/messages/discard", func(r *http.Request, x Exchange) (any, error) {
		return orderMessages(r, x, x.DiscardMessages, false)
	})
	s.endpointRoutes(mux, get)
	post("/v1/routes/test", testRoute)
}
