package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxDeployBody bounds a deployment with its JSON quoting; MaxDeployment is
	// what a file may have.
	maxDeployBody = 2*MaxDeployment + 64<<10
	maxSmallBody  = 64 << 10
	// writeSlack is added to a request's time for writing its answer.
	writeSlack = 5 * time.Second
)

// MaxDeployment is the size of the largest deployment file, in bytes.
const MaxDeployment = 1 << 20

// answer handles one request: its result is written as JSON, its error as a
// problem.
type answer func(r *http.Request) (any, error)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, timeout time.Duration, a answer) {
		mux.Handle(path, s.only(http.MethodGet, timeout, a))
	}
	post := func(path string, a answer) {
		mux.Handle(path, s.only(http.MethodPost, changeTimeout, a))
	}
	get("/v1/status", requestTimeout, s.status)
	get("/v1/nodes", requestTimeout, s.nodes)
	get("/v1/hosts", requestTimeout, s.hosts)
	get("/v1/hosts/{name}", requestTimeout, func(r *http.Request) (any, error) {
		return s.backend.Host(r.Context(), r.PathValue("name"))
	})
	post("/v1/hosts/{name}/move", s.moveHost)
	get("/v1/adapters", requestTimeout, func(r *http.Request) (any, error) { return list(s.backend.Adapters(r.Context())) })
	get("/v1/adapters/{name}", requestTimeout, func(r *http.Request) (any, error) {
		return s.backend.Adapter(r.Context(), r.PathValue("name"))
	})
	post("/v1/deployments", s.deploy)
	mux.HandleFunc("/v1/events", s.events)
	get("/v1/version", requestTimeout, func(*http.Request) (any, error) { return s.version(), nil })
	get("/healthz", requestTimeout, func(*http.Request) (any, error) { return health{"ok"}, nil })
	get("/readyz", readyTimeout, s.ready)
	s.operatorRoutes(mux)
	s.exchangeRoutes(mux)
	if s.opts.Metrics != nil {
		mux.Handle("/metrics", s.timed(http.MethodGet, requestTimeout, s.opts.Metrics.ServeHTTP))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, NotFound("no such path %s", r.URL.Path))
	})
	return s.guarded(mux)
}

type health struct {
	Status string `json:"status"`
}

func (s *Server) status(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return st.withoutNulls(), nil
}

// withoutNulls returns a copy whose lists are all there: scripts loop over them
// without asking.
func (s *Status) withoutNulls() *Status {
	c := *s
	c.Nodes = append([]NodeStatus{}, s.Nodes...)
	for i := range c.Nodes {
		c.Nodes[i].Adapters = orEmpty(c.Nodes[i].Adapters)
		c.Nodes[i].Owns = orEmpty(c.Nodes[i].Owns)
	}
	c.Cluster.Voters = orEmpty(c.Cluster.Voters)
	c.Hosts = orEmpty(c.Hosts)
	c.ReceiveLocations = orEmpty(c.ReceiveLocations)
	c.SendPorts = orEmpty(c.SendPorts)
	return &c
}

func orEmpty[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func (s *Server) hosts(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return list(st.Hosts, nil)
}

func (s *Server) moveHost(r *http.Request) (any, error) {
	var m MoveRequest
	if err := decode(r, maxSmallBody, &m); err != nil {
		return nil, err
	}
	return s.backend.MoveHost(r.Context(), r.PathValue("name"), m.To)
}

func (s *Server) deploy(r *http.Request) (any, error) {
	var d DeployRequest
	if err := decode(r, maxDeployBody, &d); err != nil {
		return nil, err
	}
	if len(d.Source) > MaxDeployment {
		return nil, tooLarge(MaxDeployment)
	}
	if strings.TrimSpace(d.Source) == "" {
		return nil, BadRequest("source is empty: send the deployment file's text in it")
	}
	if d.Name == "" {
		d.Name = "deployment.yaml"
	}
	reply, err := s.backend.Deploy(r.Context(), d)
	if err != nil {
		return nil, err
	}
	return DeployReply{Version: reply.Version, Changed: reply.Changed, Warnings: orEmpty(reply.Warnings)}, nil
}

// ready is for load balancers and probes: it says why in the log of whoever asks.
func (s *Server) ready(r *http.Request) (any, error) {
	err := s.backend.Ready(r.Context())
	var p *Problem
	if err != nil && !errors.As(err, &p) {
		return nil, Unavailable("not ready: %v", err)
	}
	return health{"ready"}, err
}

// only makes a handler of an answer, for one method and within a time limit.
func (s *Server) only(method string, timeout time.Duration, a answer) http.Handler {
	return s.timed(method, timeout, func(w http.ResponseWriter, r *http.Request) {
		v, err := a(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, "application/json", v)
	})
}

// timed lets next handle one method, within a time limit.
func (s *Server) timed(method string, timeout time.Duration, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allow(w, r, method) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		// The deadlines are the connection's: a peer that sends or reads a byte a
		// minute is cut off. An expired read deadline also ends r.Context.
		limit := time.Now().Add(timeout + writeSlack)
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(limit)
		_ = rc.SetWriteDeadline(limit)
		next(w, r.WithContext(ctx))
	})
}

func (s *Server) allow(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method || method == http.MethodGet && r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", method)
	s.fail(w, r, problem(typeUnspecified, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed,
		"%s takes %s", []any{r.URL.Path, method}))
	return false
}

// list turns a nil list into an empty one: scripts get [] and never null.
func list[T any](v []T, err error) (any, error) {
	return orEmpty(v), err
}

// decode reads a JSON body of at most limit bytes; unknown fields are errors, so
// that a misspelt one is not silently ignored.
func decode(r *http.Request, limit int64, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, limit))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return BadRequest("the body has more than one JSON value")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge(limit)
	}
	return BadRequest("the body is not the JSON expected: %v", err)
}

func tooLarge(limit int64) *Problem {
	return problem(TypeInvalid, "too large", http.StatusRequestEntityTooLarge,
		"the body has more than %s bytes", []any{strconv.FormatInt(limit, 10)})
}

// fail writes err as a problem. What the backend did not mean for the caller goes
// into the log only.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	writeProblem(w, s.toProblem(r, err))
}

func (s *Server) toProblem(r *http.Request, err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return TimedOut("the node did not finish in time; what was asked for may still happen: look at the status")
	default:
		s.log.Error("api request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		return problem(TypeInternal, "internal error", http.StatusInternalServerError,
			"the node could not do it; its log says why", nil)
	}
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	if rec, ok := w.(*recorder); ok {
		rec.problem = p.Detail
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		// Only a backend's schema that is no JSON comes here.
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
