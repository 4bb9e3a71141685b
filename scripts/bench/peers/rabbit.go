package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// rabbitProgram starts the broker as the user that runs it; the one in the
	// path changes to a user that cannot write below our directory.
	rabbitProgram = "/usr/lib/rabbitmq/bin/rabbitmq-server"

	// rabbitConnections is several client hosts.
	rabbitConnections = 8

	rabbitQueue = "jobs"
)

type rabbit struct{ url string }

func newRabbit() queue { return &rabbit{} }

func (q *rabbit) ready(ctx context.Context) error { return apt(ctx, rabbitProgram, "rabbitmq-server") }

func (q *rabbit) start(ctx context.Context, dir string) (func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dist, err := freePort()
	if err != nil {
		return nil, err
	}
	plugins := filepath.Join(dir, "plugins")
	if err := os.WriteFile(plugins, []byte("[].\n"), 0o644); err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + dir, fmt.Sprintf("RABBITMQ_NODENAME=peers%d@localhost", port), fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", dist), "RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins,
	}
	stop, err := process(ctx, dir, env, rabbitProgram)
	if err != nil {
		return nil, err
	}
	q.url = fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", port)
	if err := listening(ctx, fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

type rabbitSession struct{ conns []*amqp.Connection }

func (q *rabbit) open(context.Context, int) (session, error) {
	s := &rabbitSession{}
	for range rabbitConnections {
		// It accepts connections a moment before it can serve them.
		c, err := amqp.Dial(q.url)
		for end := time.Now().Add(startLimit); err != nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			c, err = amqp.Dial(q.url)
		}
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, c)
	}
	ch, err := s.conns[0].Channel()
	if err == nil {
		_, err = ch.QueueDeclare(rabbitQueue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cannot declare queue: %w", err)
	}
	return s, nil
}

func (s *rabbitSession) producer(i int) (func([]byte) error, error) {
	ch, err := s.conns[i%len(s.conns)].Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	return func(p []byte) error {
		confirm, err := ch.PublishWithDeferredConfirmWithContext(context.Background(), "", rabbitQueue, false, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: p})
		if err != nil {
			return err
		}
		if !confirm.Wait() {
			return errors.New("the broker refused a message")
		}
		return nil
	}, nil
}

func (s *rabbitSession) consume(ctx context.Context, i int, start func([]byte), done func()) error {
	ch, err := s.conns[i%len(s.conns)].Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	if err := ch.Qos(1, 0, false); err != nil {
		return err
	}
	jobs, err := ch.Consume(rabbitQueue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-jobs:
			if !ok {
				return errors.New("the broker closed a channel")
			}
			start(m.Body)
			if err := m.Ack(false); err != nil {
				return err
			}
			done()
		}
	}
}

func (s *rabbitSession) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
}
