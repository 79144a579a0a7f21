//go:build unix

package mailtest

import (
	"os"
	"syscall"
)

// chownAs gives a file the owner of the mailbox, where that is allowed.
func chownAs(path string, like os.FileInfo) {
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path, int(st.Uid), int(st.Gid))
	}
}
