package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// callTimeout is for callers whose context has no deadline: longer than the
	// server allows itself, so that its own answer comes first.
	callTimeout = changeTimeout + 2*writeSlack
	maxAnswer   = 64 << 20
	maxProblem  = 1 << 20
)

// ErrUnreachable is returned when no node answered: nothing listens, the
// connection broke, or the time was up. A change may have happened all the same.
var ErrUnreachable = errors.New("cannot reach the node")

// Client talks to one node. It is a [Backend] whose errors are *Problem, or
// ErrUnreachable wrapped. Make it with Dial. Methods may be called from several
// goroutines; each waits until its context ends or, without a deadline there, a
// little longer than a node takes for anything.
type Client struct {
	address string
	base    string
	http    *http.Client
}

var _ Backend = (*Client)(nil)

// Dial returns a client of the node at address: a unix socket as unix:/path or as
// a path, or http://host:port, or host:port. It does not connect yet.
func Dial(address string) (*Client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        4,
		IdleConnTimeout:     30 * time.Second,
		// A socket or a loopback address is never behind a proxy.
		Proxy: nil,
	}
	c := &Client{http: &http.Client{Transport: transport}}
	path, isPath := socketPath(address)
	switch {
	case address == "":
		return nil, errors.New("no address of a node given")
	case isPath:
		if len(path) > maxSocketPath {
			return nil, fmt.Errorf("socket path %s has %d bytes, at most %d are possible", path, len(path), maxSocketPath)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
		c.address, c.base = "unix:"+path, "http://localhost"
		return c, nil
	case !strings.Contains(address, "://"):
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("address %q: want unix:/path/of/fairlead.sock or http://host:port", address)
	}
	c.base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/")
	c.address = c.base
	return c, nil
}

func socketPath(address string) (string, bool) {
	if rest, ok := strings.CutPrefix(address, "unix:"); ok {
		rest = strings.TrimPrefix(rest, "//")
		return rest, rest != ""
	}
	return address, strings.HasPrefix(address, "/") || strings.HasPrefix(address, ".")
}

// Address returns what the client talks to, for messages.
func (c *Client) Address() string { return c.address }

// Close frees idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status implements Backend.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[*Status](ctx, c, "/v1/status", nil)
}

// Hosts returns all hosts.
func (c *Client) Hosts(ctx context.Context) ([]HostStatus, error) {
	return get[[]HostStatus](ctx, c, "/v1/hosts", nil)
}

// Host implements Backend.
func (c *Client) Host(ctx context.Context, name string) (*HostStatus, error) {
	return get[*HostStatus](ctx, c, "/v1/hosts/"+url.PathEscape(name), nil)
}

// MoveHost implements Backend.
func (c *Client) MoveHost(ctx context.Context, name, to string) (*MoveReply, error) {
	var reply MoveReply
	err := c.call(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(name)+"/move", MoveRequest{To: to}, &reply)
	return &reply, err
}

// Adapters implements Backend.
func (c *Client) Adapters(ctx context.Context) ([]Adapter, error) {
	return get[[]Adapter](ctx, c, "/v1/adapters", nil)
}

// Adapter implements Backend.
func (c *Client) Adapter(ctx context.Context, name string) (*Adapter, error) {
	return get[*Adapter](ctx, c, "/v1/adapters/"+url.PathEscape(name), nil)
}

// Deploy implements Backend.
func (c *Client) Deploy(ctx context.Context, r DeployRequest) (*DeployReply, error) {
	var reply DeployReply
	err := c.call(ctx, http.MethodPost, "/v1/deployments", r, &reply)
	return &reply, err
}

// Events implements Backend.
func (c *Client) Events(ctx context.Context, after uint64) ([]Event, error) {
	return get[[]Event](ctx, c, "/v1/events", url.Values{"after": {strconv.FormatUint(after, 10)}})
}

// Ready implements Backend.
func (c *Client) Ready(ctx context.Context) error {
	_, err := get[health](ctx, c, "/readyz", nil)
	return err
}

// Version returns what the node says it is.
func (c *Client) Version(ctx context.Context) (*Version, error) {
	return get[*Version](ctx, c, "/v1/version", nil)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var v T
	err := c.call(ctx, http.MethodGet, path, nil, &v)
	return v, err
}

// call makes one request and decodes its answer.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	resp, err := c.send(ctx, method, path, "application/json", body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if !isJSON(resp) {
		return c.notANode(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("the answer of %s has more than %d bytes", c.address, maxAnswer)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w; is it a fairlead node of this version?", c.address, err)
	}
	return nil
}

// send returns the response to a request that succeeded; its body is the caller's
// to close.
func (c *Client) send(ctx context.Context, method, path, accept string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", path, err)
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, c.problemOf(resp)
}

// unreachable says why there was no answer; that the caller gave up is no fault
// of the node.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w at %s: no answer in time: %w", ErrUnreachable, c.address, context.DeadlineExceeded)
	}
	// Without the made-up URL of a socket, and without the address a second time.
	var op *url.Error
	if errors.As(err, &op) {
		err = op.Err
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		err = dial.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, err)
}

func (c *Client) problemOf(resp *http.Response) error {
	if !isJSON(resp) {
		return c.notANode(resp)
	}
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(p); err != nil {
		return c.notANode(resp)
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	return p
}

func (c *Client) notANode(resp *http.Response) error {
	return fmt.Errorf("%s answered %s without JSON; is it a fairlead node?", c.address, resp.Status)
}

func isJSON(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || kind == "application/problem+json")
}
