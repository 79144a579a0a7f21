package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/datadir"
	"github.com/fairlead-io/fairlead/runtime/ledger"
)

const (
	// stoppedWithin bounds the wait for the data directory of a node that should be
	// stopped already.
	stoppedWithin = 3 * time.Second
	// answerWithin bounds the look whether another voter is there.
	answerWithin = 3 * time.Second
)

func newClusterCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Recover a cluster that lost its majority for good"}
	cmd.AddCommand(newClusterRecoverCommand(c))
	groupOnly(cmd)
	return cmd
}

func newClusterRecoverCommand(c *cli) *cobra.Command {
	var file, confirm string
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make this stopped node a cluster of its own, when the majority is lost for good",
		Long: `When most of the voting nodes are lost for good, the rest decides nothing any more.
This makes one stopped node a cluster of its own, with everything that is on its
disk. What the lost nodes had committed and this disk has not is lost: run it on the
node with the highest index. The cluster gets a new identity; disks of the old one
that turn up again have to be emptied before their nodes join.

Without --confirm it only shows what is on the disk.

It refuses while the node runs, and while another voter answers: then there is, or
may come, a majority.`,
		Example: "  fairlead cluster recover -c node.yaml\n  fairlead cluster recover -c node.yaml --confirm edi",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadNode(file, config.WithEnvironment(os.Environ), config.WithFlags(cmd.Flags()))
			if err != nil {
				return err
			}
			return c.recover(cmd.Context(), cfg, confirm)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "node file of the stopped node")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the cluster's name: carry it out")
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "toml", "json"))
	must(config.AddFlags(cmd.Flags()))
	return cmd
}

// recovery is what the command shows.
type recovery struct {
	Node       string    `json:"node"`
	Index      uint64    `json:"index"`
	NewestAt   time.Time `json:"newest_at"`
	Deployment uint64    `json:"deployment"`
	Cluster    string    `json:"cluster"`
	// Others are all other servers that the disk knows, Voters those of them that vote.
	Others    []string `json:"others"`
	Voters    []string `json:"voters"`
	Recovered bool     `json:"recovered"`
}

func (c *cli) recover(ctx context.Context, cfg *config.Node, confirm string) error {
	if confirm != "" && confirm != cfg.Cluster.Name {
		return &usageError{fmt.Errorf("--confirm %s: the cluster's name is %s", confirm, cfg.Cluster.Name)}
	}
	// What another user wrote there, the node could not read any more.
	if err := ownedByCaller(cfg.Node.DataDir); err != nil {
		return &usageError{err}
	}
	waiting, cancel := context.WithTimeout(ctx, stoppedWithin)
	lock, err := datadir.Open(waiting, cfg.Node.DataDir)
	cancel()
	if err != nil {
		return fmt.Errorf("the node has to be stopped: %w", err)
	}
	defer lock.Close()
	remains, err := ledger.Inspect(cfg.Node.Name, cfg.Node.DataDir)
	if errors.Is(err, ledger.ErrNoRemains) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	if confirm != "" {
		if err := refuseIfAnyAnswers(ctx, remains.Others(cfg.Node.Name)); err != nil {
			return err
		}
		if remains, err = ledger.Recover(cfg.Node.Name, cfg.Node.DataDir, cfg.Listen.Cluster); err != nil {
			return err
		}
	}
	r := recovery{
		Node: cfg.Node.Name, Index: remains.Index, NewestAt: remains.At, Deployment: remains.Deployment,
		Cluster: remains.ClusterID, Others: []string{}, Voters: []string{}, Recovered: confirm != "",
	}
	for _, s := range remains.Others(cfg.Node.Name) {
		r.Others = append(r.Others, s.Node)
		if s.Voter {
			r.Voters = append(r.Voters, s.Node)
		}
	}
	return c.print(r, func(p *page) { r.table(p, cfg.Cluster.Name) })
}

// refuseIfAnyAnswers fails if one of the other voters is there. That something takes
// the connection is enough: a node that is frozen, or that this one cannot agree with
// about certificates, is not lost.
func refuseIfAnyAnswers(ctx context.Context, others []ledger.Server) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	answers := make([]error, len(others))
	var asked sync.WaitGroup
	for i, s := range others {
		if !s.Voter {
			continue
		}
		asked.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address)
			if err == nil {
				conn.Close()
				answers[i] = fmt.Errorf("%s answers on %s: it votes, so start this node and the others that are left instead; "+
					"if it belongs to no majority any more, stop it first", s.Node, s.Address)
			}
		})
	}
	asked.Wait()
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return ctx.Err() // interrupted: nobody had the time to answer
	}
	return errors.Join(answers...)
}

func (r recovery) table(p *page, name string) {
	newest := "no event"
	if !r.NewestAt.IsZero() {
		newest = "newest event of " + r.NewestAt.Format(time.RFC3339)
	}
	p.say(plain, "node %s: index %d, %s, deployment %d", r.Node, r.Index, newest, r.Deployment)
	p.say(plain, "cluster %s; other servers that it knows: %s; of those vote: %s", r.Cluster, some(r.Others), some(r.Voters))
	if !r.Recovered {
		p.say(plain, "lost would be what the others committed after index %d, if anything", r.Index)
		p.say(plain, "nothing was changed: with --confirm %s this node becomes a cluster of its own", name)
		return
	}
	p.say(plain, "recovered: start this node. Then empty the data directories of the others and start them: they join it")
}

func some(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
