package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
)

// beanstalk is beanstalkd with a log that is synced for every write.
type beanstalk struct{ addr string }

func newBeanstalk() queue { return &beanstalk{} }

func (q *beanstalk) ready(ctx context.Context) error { return apt(ctx, "beanstalkd", "beanstalkd") }

func (q *beanstalk) start(ctx context.Context, dir string) (func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	stop, err := process(ctx, dir, nil, "beanstalkd", "-l", "127.0.0.1", "-p", fmt.Sprint(port), "-b", dir, "-f", "0")
	if err != nil {
		return nil, err
	}
	q.addr = fmt.Sprintf("127.0.0.1:%d", port)
	if err := listening(ctx, q.addr); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func (q *beanstalk) open(context.Context, int) (session, error) { return q, nil }

func (q *beanstalk) close() {}

func (q *beanstalk) producer(int) (func([]byte) error, error) {
	c, err := net.Dial("tcp", q.addr)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	return func(p []byte) error {
		b := fmt.Appendf(nil, "put 1024 0 60 %d\r\n%s\r\n", len(p), p)
		if _, err := c.Write(b); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "INSERTED") {
			err = fmt.Errorf("put was answered %q", line)
		}
		return err
	}, nil
}

func (q *beanstalk) consume(ctx context.Context, _ int, start func([]byte), done func()) error {
	c, err := net.Dial("tcp", q.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for ctx.Err() == nil {
		if _, err := io.WriteString(c, "reserve-with-timeout 1\r\n"); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		var id string
		var size int
		if n, _ := fmt.Sscanf(line, "RESERVED %s %d", &id, &size); n != 2 {
			continue // nothing waited
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		start(body[:size])
		if _, err := fmt.Fprintf(c, "delete %s\r\n", id); err != nil {
			return err
		}
		if line, err = r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "DELETED") {
			return fmt.Errorf("delete was answered %q: %w", line, err)
		}
		done()
	}
	return nil
}
