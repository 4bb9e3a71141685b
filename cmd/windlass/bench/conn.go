package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// conn is one keep-alive HTTP/1.1 connection that writes prepared requests. The
// load shares two cores with the server that it measures, so it must be lean.
type conn struct {
	addr string
	key  string
	c    net.Conn
	r    *bufio.Reader
	out  []byte
	in   []byte
}

// connBuffer holds any answer of the hot path.
const connBuffer = 16 << 10

func dial(addr, key string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", addr, err)
	}
	return &conn{addr: addr, key: key, c: c, r: bufio.NewReaderSize(c, connBuffer)}, nil
}

func (c *conn) close() { _ = c.c.Close() }

// post sends body and returns the answer's status and body, valid until the next call.
func (c *conn) post(path string, body []byte) (int, []byte, error) {
	return c.do("POST", path, body)
}

func (c *conn) do(method, path string, body []byte) (int, []byte, error) {
	b := append(c.out[:0], method...)
	b = append(append(append(b, ' '), path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, c.addr...), "\r\nAuthorization: Bearer "...)
	b = append(append(b, c.key...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(append(b, "\r\n\r\n"...), body...)
	c.out = b
	if _, err := c.c.Write(b); err != nil {
		return 0, nil, err
	}
	return c.read()
}

func (c *conn) read() (int, []byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, errors.New("cannot read answer: short status line")
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read answer: %w", err)
	}
	length := 0
	for {
		line, err = c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		if bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, fmt.Errorf("cannot read answer: %w", err)
			}
		}
	}
	if cap(c.in) < length {
		c.in = make([]byte, length)
	}
	c.in = c.in[:length]
	_, err = io.ReadFull(c.r, c.in)
	return status, c.in, err
}
