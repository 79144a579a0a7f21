package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

const (
	// sampleWithin bounds one look at the cluster.
	sampleWithin = 5 * time.Second
	mebibyte     = 1 << 20
)

// errIncomplete says that not every node ran: its share would be missing.
var errIncomplete = errors.New("a node is down")

// look takes one sample of the whole cluster.
func look(ctx context.Context, c *cluster.Cluster) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleWithin)
	defer cancel()
	s := sample{}
	for _, n := range c.Nodes {
		if err := s.add(ctx, n); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return s, nil
}

// add adds what one node uses, with its plugins.
func (s sample) add(ctx context.Context, n *cluster.Node) error {
	processes, err := n.Processes()
	if err != nil {
		return err
	}
	runs := false
	for _, p := range processes {
		memory, files := nodeMemory, nodeFiles
		if p.Part == cluster.Plugin {
			memory, files = pluginMemory, pluginFiles
		}
		runs = runs || p.Part == cluster.Runtime
		if err := s.addProcess(p.PID, memory, files); err != nil {
			return err
		}
	}
	if !runs {
		return errIncomplete
	}
	count, err := goroutinesOf(ctx, n)
	if err != nil {
		return err
	}
	s[goroutines] += count
	return s.addSpool(filepath.Join(n.Dir, "data"))
}

// addProcess reads /proc. A process that ended since it was found counts nothing.
func (s sample) addProcess(pid int, memory, files quantity) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if ended(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return fmt.Errorf("memory of process %d: %w", pid, err)
		}
		s[memory] += kib / 1024
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil && !ended(err) {
		return err
	}
	s[files] += float64(len(open))
	return nil
}

func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrProcessDone)
}

// addSpool adds what lies in the node's spools.
func (s sample) addSpool(data string) error {
	for _, spool := range []string{"spool", "spool-remote"} {
		err := filepath.WalkDir(filepath.Join(data, spool), func(_ string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // sent meanwhile
			}
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				s[spooled] += float64(info.Size()) / mebibyte
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("size of the spool: %w", err)
		}
	}
	return nil
}

// goroutinesOf asks the node's metrics.
func goroutinesOf(ctx context.Context, n *cluster.Node) (float64, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errIncomplete, err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("its metrics do not tell the number of goroutines"))
}
