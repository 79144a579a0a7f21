package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

var (
	_ api.Backend  = (*Node)(nil)
	_ api.Exchange = (*Node)(nil)
)

// pollEvery is how often the API looks whether what was asked for has happened.
const pollEvery = 20 * time.Millisecond

// MoveHost implements api.Backend.
func (n *Node) MoveHost(ctx context.Context, name, to string) (*api.MoveReply, error) {
	group, from, epoch, err := n.movable(name)
	if err != nil {
		return nil, err
	}
	named := to != ""
	to, err = n.destination(group, from, to)
	if err != nil {
		return nil, err
	}
	err = n.propose(ctx, &pb.Command{Kind: &pb.Command_Move{Move: &pb.Move{
		Group: group, To: to, Epoch: epoch, Reason: "moved by order", Cause: "move", Pin: named,
	}}})
	if errors.Is(err, ledger.ErrStale) {
		return nil, api.Conflict("group %s has just changed its owner; look at `fairlead status` and try again", group)
	}
	if err != nil {
		return nil, api.Unavailable("move not committed: %v", err)
	}
	for {
		h, err := n.Host(ctx, name)
		if err == nil && h.Epoch > epoch && h.State == "running" {
			return &api.MoveReply{Group: group, From: from, To: h.Owner, Epoch: h.Epoch}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the move of %s is committed but not complete: %w; see `fairlead status`", group, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

func (n *Node) movable(host string) (group, owner string, epoch uint64, err error) {
	n.ledger.View(func(s *pb.State) {
		d := n.plans.of(s)
		if d == nil {
			err = api.NotFound("nothing is deployed")
			return
		}
		h, ok := d.Hosts[host]
		switch {
		case !ok:
			err = api.NotFound("no host %q in the deployment", host)
			return
		case !h.Clustered:
			err = api.BadRequest("host %s is not clustered: it runs on every member and cannot be moved", host)
			return
		}
		g := s.GetGroups()[groupOf(host, h)]
		if group, owner, epoch = g.GetName(), g.GetOwner(), g.GetEpoch(); owner == "" {
			err = api.Conflict("group %s has no owner to move it from: %s", group, g.GetReason())
		}
	})
	return group, owner, epoch, err
}

// destination checks the wanted owner, or chooses one.
func (n *Node) destination(group, from, to string) (node string, err error) {
	n.ledger.View(func(s *pb.State) {
		c := n.cluster(s)
		if to == "" {
			d := placement.Elsewhere(c, group, from)
			if node = d.Node; node == "" {
				err = api.Conflict("group %s cannot be moved: %s", group, d.Reason)
			}
			return
		}
		g := slices.IndexFunc(c.Groups, func(g placement.Group) bool { return g.Name == group })
		i := slices.IndexFunc(c.Nodes, func(n placement.Node) bool { return n.Name == to })
		switch {
		case i < 0:
			err = api.NotFound("no node %q is a member now", to)
		case to == from:
			err = api.Conflict("node %s owns group %s already", to, group)
		case g >= 0 && placement.Refusal(c.Nodes[i], c.Groups[g]) != "":
			err = api.Conflict("node %s cannot own group %s: it %s", to, group, placement.Refusal(c.Nodes[i], c.Groups[g]))
		}
		node = to
	})
	return node, err
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return slices.Clone(s)
}

// Adapters implements api.Backend.
func (n *Node) Adapters(context.Context) ([]api.Adapter, error) {
	list := []api.Adapter{}
	for _, b := range n.adapters {
		list = append(list, describe(b))
	}
	return list, nil
}

// Adapter implements api.Backend.
func (n *Node) Adapter(_ context.Context, name string) (*api.Adapter, error) {
	for _, b := range n.adapters {
		if b.Name == name {
			a := describe(b)
			return &a, nil
		}
	}
	_, err := handler.Lookup(n.adapters, n.cfg.File.Node.AdapterDirs, name)
	return nil, api.NotFound("%v", err)
}

func describe(b handler.Binary) api.Adapter {
	a := api.Adapter{Name: b.Name, Version: b.Version, Summary: b.Summary, Path: b.Path, SHA256: b.SHA256}
	if b.Err != nil {
		a.Error = b.Err.Error()
	}
	side := func(s *handler.Side) *api.AdapterSide {
		if s == nil {
			return nil
		}
		return &api.AdapterSide{Schema: json.RawMessage(s.Schema), Exclusive: s.Exclusive, Probes: s.Probes}
	}
	a.Receive, a.Send = side(b.Receive), side(b.Send)
	return a
}

// Ready implements api.Backend.
func (n *Node) Ready(context.Context) error {
	switch {
	case n.ledger.Leader() == "":
		return api.Unavailable("%v", n.noLeader())
	case !n.tenant.Lease().Valid():
		return api.Unavailable("this node holds no lease")
	}
	return nil
}

// facts are what deployments are checked against: this node's adapters.
func (n *Node) facts() config.Facts {
	f := config.Facts{Adapters: map[string]config.AdapterFacts{}}
	for _, b := range n.adapters {
		if b.Err != nil {
			continue
		}
		a := config.AdapterFacts{Version: b.Version}
		if b.Receive != nil {
			a.ReceiveSchema, a.Exclusive = b.Receive.Schema, b.Receive.Exclusive
		}
		if b.Send != nil {
			a.SendSchema, a.Probes = b.Send.Schema, b.Send.Probes
		}
		a.Check = func(ctx context.Context, receive bool, properties []byte) ([]config.Problem, error) {
			found, err := handler.Check(ctx, b, receive, properties)
			var problems []config.Problem
			for _, p := range found {
				problems = append(problems, config.Problem{Property: p.Property, Problem: p.Problem})
			}
			return problems, err
		}
		f.Adapters[b.Name] = a
	}
	for _, m := range n.membership.Members() {
		f.Nodes = append(f.Nodes, m.Name)
	}
	return f
}

// invalid is the problem of a deployment file that is wrong; other errors stay.
func invalid(err error) error {
	var findings config.Findings
	if !errors.As(err, &findings) {
		return err
	}
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.String())
	}
	return api.Invalid(lines...)
}

// Deploy implements api.Backend.
func (n *Node) Deploy(ctx context.Context, r api.DeployRequest) (*api.DeployReply, error) {
	if n.ledger.Leader() == "" {
		return nil, api.Unavailable("%v", n.noLeader())
	}
	d, err := config.ParseDeployment(r.Name, []byte(r.Source), n.facts())
	if err != nil {
		return nil, invalid(err)
	}
	reply := &api.DeployReply{Warnings: []string{}}
	for _, w := range d.Warnings {
		reply.Warnings = append(reply.Warnings, w.String())
	}
	parsed, err := d.Encode()
	if err != nil {
		return nil, err
	}
	var current []byte
	n.ledger.View(func(s *pb.State) {
		if ds := s.GetDeployments(); len(ds) > 0 {
			current, reply.Version = ds[len(ds)-1].GetParsed(), ds[len(ds)-1].GetVersion()
		}
	})
	if string(current) == string(parsed) {
		return reply, nil
	}
	reply.Changed = true
	reply.Version++
	if r.DryRun {
		return reply, nil
	}
	return reply, n.commitDeployment(ctx, r, d, parsed, reply.Version)
}

func (n *Node) commitDeployment(ctx context.Context, r api.DeployRequest, d *config.Deployment, parsed []byte, version uint64) error {
	c := &pb.Deploy{Version: version, Name: r.Name, Source: []byte(r.Source), Parsed: parsed}
	for _, g := range d.Groups() {
		c.Groups = append(c.Groups, g.Name)
	}
	c.Locations = d.LocationGroups()
	command := &pb.Command{AtMs: time.Now().UnixMilli(), Kind: &pb.Command_Deploy{Deploy: c}}
	index, err := n.proposeAt(ctx, command)
	switch {
	case errors.Is(err, ledger.ErrStale):
		return api.Conflict("another deployment was made at the same time; look at it, then deploy again")
	case err != nil:
		return api.Unavailable("deployment not committed: %v", err)
	}
	return n.ledger.WaitApplied(ctx, index)
}

// followDeployFile deploys node.deploy now and whenever it changes.
func (n *Node) followDeployFile() {
	path := n.cfg.File.Deploy
	err := config.Watch(n.ctx, path, func(data []byte) {
		for n.ctx.Err() == nil {
			ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
			reply, err := n.Deploy(ctx, api.DeployRequest{Name: path, Source: string(data)})
			cancel()
			var p *api.Problem
			switch {
			case err == nil:
				n.log.Info("deployment file", "file", path, "deployment", reply.Version, "changed", reply.Changed)
				return
			case errors.As(err, &p) && len(p.Findings) > 0:
				n.log.Error("deployment file refused; the running deployment goes on", "file", path, "findings", p.Findings)
				return
			}
			n.log.Debug("deployment file not deployed yet", "error", err)
			select {
			case <-n.ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	if err != nil {
		n.log.Error("deployment file not followed", "file", path, "error", err)
	}
}
