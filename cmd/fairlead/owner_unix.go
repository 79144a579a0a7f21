//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownedByCaller fails if the directory belongs to another user than this process's.
func ownedByCaller(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("node.data_dir: %s does not exist", dir)
	}
	if err != nil {
		return fmt.Errorf("node.data_dir: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	owner := strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("node.data_dir: %s belongs to the user %s: run this as that user (sudo -u %s fairlead ...)", dir, owner, owner)
}
