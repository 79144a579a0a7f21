//go:build !linux

package cluster

import "os/exec"

// startTied starts the command. Only Linux can tie its life to this process.
func startTied(cmd *exec.Cmd) error { return cmd.Start() }
