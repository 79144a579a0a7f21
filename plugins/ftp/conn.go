package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// listingMax bounds the memory that a listing may take.
	listingMax = 64 << 20
	// drainMax bounds how long an upload waits for the server to close its side.
	drainMax = 5 * time.Second
	// copyBuffer is what an upload writes at once.
	copyBuffer = 128 << 10
)

// rollingConn gives every read and write the full timeout anew, so that a
// transfer may take hours but may not stop. The client library sets no deadlines
// of its own where it waits for replies (and crypto/tls and the library clear or
// shorten ours where they do), so deadlines set from outside are ignored.
type rollingConn struct {
	net.Conn
	timeout time.Duration
	// closed is called by the first Close.
	closed func()
	once   sync.Once
	err    error
}

// arrive waits for the connection if it is the peer that makes it.
func (c *rollingConn) arrive() error {
	if a, ok := c.Conn.(*awaited); ok {
		return a.arrive()
	}
	return nil
}

func (c *rollingConn) Read(p []byte) (int, error) {
	if err := c.arrive(); err != nil {
		return 0, err
	}
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *rollingConn) Write(p []byte) (int, error) {
	if err := c.arrive(); err != nil {
		return 0, err
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *rollingConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		c.closed()
	})
	return c.err
}

// CloseWrite ends the writing side, which the server reads as end of file. It does not
// wait for a connection that the server is to make: it may have refused to.
func (c *rollingConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *rollingConn) SetDeadline(time.Time) error      { return nil }
func (c *rollingConn) SetReadDeadline(time.Time) error  { return nil }
func (c *rollingConn) SetWriteDeadline(time.Time) error { return nil }

// dataConn is a data connection as the client library sees it.
type dataConn struct {
	net.Conn              // raw, or tls over raw
	raw      *rollingConn // the socket
	tls      *tls.Conn    // nil without TLS
	record   *bytes.Buffer
	upload   bool
	once     sync.Once
	closeErr error

	trace          *trace
	begun          time.Time
	sent, received int64
}

// Read also keeps what a listing says: the library drops lines that it cannot
// parse without a word.
func (c *dataConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received += int64(n)
	if c.record != nil && n > 0 {
		if c.record.Len()+n > listingMax {
			return 0, fmt.Errorf("listing has more than %d bytes", listingMax)
		}
		c.record.Write(p[:n])
	}
	return n, err
}

// Write implements io.Writer.
func (c *dataConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent += int64(n)
	return n, err
}

// ReadFrom copies in larger pieces than io.Copy does, each under a deadline of
// its own.
func (c *dataConn) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, copyBuffer)
	var total int64
	for {
		n, readErr := r.Read(buf)
		if n > 0 {
			written, err := c.Write(buf[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// Handshake is called by the library for empty uploads, which never write.
func (c *dataConn) Handshake() error {
	if c.tls == nil {
		return c.raw.arrive()
	}
	return c.tls.Handshake()
}

// Close of an upload ends the writing side first and reads to the end before it
// closes. Closing at once, with session tickets of the server unread, resets the
// connection under TLS 1.3, and some servers then keep a short file and report
// success.
func (c *dataConn) Close() error {
	c.once.Do(func() {
		if c.upload {
			c.closeErr = c.finishUpload()
		}
		if err := c.Conn.Close(); c.closeErr == nil && !c.upload {
			c.closeErr = err
		}
		// tls.Conn does not close the socket if its own shutdown failed.
		_ = c.raw.Close()
		c.trace.data(c)
	})
	return c.closeErr
}

func (c *dataConn) finishUpload() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return fmt.Errorf("end upload: %w", err)
		}
	}
	if err := c.raw.CloseWrite(); err != nil {
		return fmt.Errorf("end upload: %w", err)
	}
	// What comes now is of no interest, and neither is how it ends: the reply on
	// the control connection and the file's size decide.
	c.raw.timeout = min(c.raw.timeout, drainMax)
	_, _ = io.Copy(io.Discard, c.Conn)
	return nil
}
