//go:build linux

package main

import (
	"net"
	"syscall"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
)

func TestControlConnectionIsKeptAlive(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, s.props)
	c, err := src.pool.acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer src.pool.release(c)
	tcp, ok := c.control.Conn.(*rollingConn).Conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("the socket is a %T", c.control.Conn.(*rollingConn).Conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ level, option, value int }{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 30},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 6},
	} {
		got, optionErr := 0, error(nil)
		err := raw.Control(func(fd uintptr) {
			got, optionErr = syscall.GetsockoptInt(int(fd), want.level, want.option)
		})
		if err != nil || optionErr != nil || got != want.value {
			t.Errorf("option %d is %d, %v, %v; want %d", want.option, got, err, optionErr, want.value)
		}
	}
}
