package api

import (
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// guarded wraps every request: the time limit, who may ask, and the log.
func (s *Server) guarded(next http.Handler) http.Handler {
	// Browsers say where a request comes from; scripts do not and pass.
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		h := rec.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")

		if err := crossOrigin.Check(r); err != nil {
			writeProblem(rec, refused("a web page of another origin may not use this API"))
		} else if p := s.refuses(r); p != nil {
			writeProblem(rec, p)
		} else {
			next.ServeHTTP(rec, r)
		}
		s.logRequest(r, rec, time.Since(began))
	})
}

// refuses says why a request may not go on, or nil.
func (s *Server) refuses(r *http.Request) *Problem {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && local.Network() == "unix" {
		return s.refusesChange(r, true)
	}
	// A name that an attacker lets point to 127.0.0.1 makes his page and this API
	// one origin to the browser (DNS rebinding). He cannot do that with an IP
	// address or with localhost.
	if isLoopback(local) && !isLocalName(r.Host) {
		return refused("host %q is not a name of this loopback address; use 127.0.0.1 or localhost", r.Host)
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return s.refusesChange(r, err == nil && remote.Addr().Unmap().IsLoopback())
}

func (s *Server) refusesChange(r *http.Request, local bool) *Problem {
	if r.Method != http.MethodPost {
		return nil
	}
	if !local && !s.opts.RemoteChanges {
		return refused("changes are taken only on the unix socket or from this machine; run the command there")
	}
	// What a form of a web page can send without asking is not JSON.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &Problem{
			Type: TypeInvalid, Title: "unsupported media type", Status: http.StatusUnsupportedMediaType,
			Detail: "send the body as content-type application/json",
		}
	}
	return nil
}

func refused(format string, args ...any) *Problem {
	return problem(TypeRefused, "refused", http.StatusForbidden, format, args)
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func isLocalName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// logRequest keeps a record of who changed what. Reading is routine, and so are its
// failures: probes ask a node that is not ready many times.
func (s *Server) logRequest(r *http.Request, rec *recorder, took time.Duration) {
	level := slog.LevelDebug
	if r.Method == http.MethodPost {
		level = slog.LevelInfo
	}
	if r.Method == http.MethodPost && rec.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	peer := r.RemoteAddr
	if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); local != nil && local.Network() == "unix" {
		peer = "unix"
	}
	attrs := []any{"method", r.Method, "path", r.URL.Path, "status", rec.status, "took", took, "peer", peer}
	if rec.problem != "" {
		attrs = append(attrs, "problem", rec.problem)
	}
	s.log.Log(r.Context(), level, "api request", attrs...)
}

// recorder remembers for the log what was answered.
type recorder struct {
	http.ResponseWriter
	status  int
	problem string
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
