package guardian

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Supported tells whether Run works on this platform.
const Supported = true

// Attach connects this process with the guardian that started it, and returns nil if
// none did. From then on signals are passed on to this process, and the end of the
// guardian kills it. It is called once, when signals are handled.
func Attach(getenv func(string) string) (*Link, error) {
	text := getenv(LinkEnv)
	if text == "" {
		return nil, nil
	}
	if err := os.Unsetenv(LinkEnv); err != nil { // it means nothing to children
		return nil, fmt.Errorf("%s: %w", LinkEnv, err)
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 || !isLink(fd) {
		return nil, fmt.Errorf("%s is %q, which is no connection to a guardian: leave the variable to it", LinkEnv, text)
	}
	file := os.NewFile(uintptr(fd), "link to the guardian")
	conn, err := net.FileConn(file) // a duplicate, closed on exec
	if err != nil {
		return nil, fmt.Errorf("link to the guardian: %w", errors.Join(err, file.Close()))
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("link to the guardian: %w", err)
	}
	return newLink(conn, die)
}

func isLink(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_SEQPACKET
}

// die ends this process like the kernel does when the guardian dies. It catches
// binaries with file capabilities, for which the kernel does not.
func die() { _ = unix.Kill(unix.Getpid(), unix.SIGKILL) }
