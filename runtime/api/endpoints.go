package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// endpointRoutes registers the routes of receive locations and send ports.
func (s *Server) endpointRoutes(mux *http.ServeMux, get func(string, func(*http.Request, Exchange) (any, error))) {
	mux.Handle("/v1/locations", s.only(http.MethodGet, requestTimeout, s.locations))
	mux.Handle("/v1/ports", s.only(http.MethodGet, requestTimeout, s.ports))
	get("/v1/locations/{name}", func(r *http.Request, x Exchange) (any, error) {
		return x.Location(r.Context(), r.PathValue("name"))
	})
	get("/v1/ports/{name}", func(r *http.Request, x Exchange) (any, error) {
		return x.Port(r.Context(), r.PathValue("name"))
	})
	for _, order := range LocationOrders {
		mux.Handle("/v1/locations/{name}/"+order, s.order(s.asking(func(r *http.Request, x Exchange) (any, error) {
			return x.SetLocation(r.Context(), r.PathValue("name"), order)
		})))
	}
	for _, order := range PortOrders {
		mux.Handle("/v1/ports/{name}/"+order, s.order(s.asking(func(r *http.Request, x Exchange) (any, error) {
			return x.SetPort(r.Context(), r.PathValue("name"), order)
		})))
	}
}

func (s *Server) locations(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return list(st.ReceiveLocations, nil)
}

func (s *Server) ports(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return list(st.SendPorts, nil)
}

func testRoute(r *http.Request, x Exchange) (any, error) {
	var q RouteRequest
	if err := decode(r, maxDeployBody, &q); err != nil {
		return nil, err
	}
	if q.Location == "" {
		return nil, BadRequest("location is empty: say which receive location the message would come from")
	}
	if len(q.Source) > MaxDeployment {
		return nil, tooLarge(MaxDeployment)
	}
	if q.Source != "" && strings.TrimSpace(q.Source) == "" {
		return nil, BadRequest("source is empty: send the deployment file's text in it, or leave it out for the running deployment")
	}
	if q.Source != "" && q.Name == "" {
		q.Name = "deployment.yaml"
	}
	found, err := x.TestRoute(r.Context(), q)
	if err != nil {
		return nil, err
	}
	reply := RouteReply{To: orEmpty(found.To), Reason: found.Reason, Rules: append([]RouteRule{}, found.Rules...)}
	for i := range reply.Rules {
		reply.Rules[i].To = orEmpty(reply.Rules[i].To)
	}
	return reply, nil
}

// Locations returns all receive locations.
func (c *Client) Locations(ctx context.Context) ([]LocationStatus, error) {
	return get[[]LocationStatus](ctx, c, "/v1/locations", nil)
}

// Ports returns all send ports.
func (c *Client) Ports(ctx context.Context) ([]PortStatus, error) {
	return get[[]PortStatus](ctx, c, "/v1/ports", nil)
}

// Location implements Exchange.
func (c *Client) Location(ctx context.Context, name string) (*LocationStatus, error) {
	return get[*LocationStatus](ctx, c, "/v1/locations/"+url.PathEscape(name), nil)
}

// SetLocation implements Exchange. The node is told how long ctx lasts, up to an hour.
func (c *Client) SetLocation(ctx context.Context, name, order string) (*LocationStatus, error) {
	var reply LocationStatus
	err := c.order(ctx, "/v1/locations/"+url.PathEscape(name)+"/"+url.PathEscape(order), &reply)
	return &reply, err
}

// Port implements Exchange.
func (c *Client) Port(ctx context.Context, name string) (*PortStatus, error) {
	return get[*PortStatus](ctx, c, "/v1/ports/"+url.PathEscape(name), nil)
}

// SetPort implements Exchange. The node is told how long ctx lasts, up to an hour.
func (c *Client) SetPort(ctx context.Context, name, order string) (*PortStatus, error) {
	var reply PortStatus
	err := c.order(ctx, "/v1/ports/"+url.PathEscape(name)+"/"+url.PathEscape(order), &reply)
	return &reply, err
}

// TestRoute implements Exchange.
func (c *Client) TestRoute(ctx context.Context, r RouteRequest) (*RouteReply, error) {
	var reply RouteReply
	err := c.call(ctx, http.MethodPost, "/v1/routes/test", r, &reply)
	return &reply, err
}
