package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

// startRedis runs a server that syncs its append-only file for every command.
func startRedis(ctx context.Context, dir string) (addr string, stop func(), err error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	stop, err = process(ctx, dir, nil, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err != nil {
		return "", nil, err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	if err := listening(ctx, addr); err != nil {
		stop()
		return "", nil, err
	}
	return addr, stop, nil
}

// redisPool is as many connections as the largest load uses.
const redisPool = 300

// asynqPoll is how often the library looks for work while it waits; its own
// default of a second would be all that is measured.
const asynqPoll = 5 * time.Millisecond

type asynqQueue struct{ addr string }

func newAsynq() queue { return &asynqQueue{} }

func (q *asynqQueue) ready(ctx context.Context) error {
	return apt(ctx, "redis-server", "redis-server")
}

func (q *asynqQueue) start(ctx context.Context, dir string) (stop func(), err error) {
	q.addr, stop, err = startRedis(ctx, dir)
	return stop, err
}

type asynqSession struct {
	opt    asynq.RedisClientOpt
	client *asynq.Client
	c      int
}

func (q *asynqQueue) open(_ context.Context, c int) (session, error) {
	opt := asynq.RedisClientOpt{Addr: q.addr, PoolSize: redisPool}
	return &asynqSession{opt: opt, client: asynq.NewClient(opt), c: c}, nil
}

func (s *asynqSession) producer(int) (func([]byte) error, error) {
	return func(p []byte) error {
		_, err := s.client.Enqueue(asynq.NewTask("job", p), asynq.MaxRetry(3))
		return err
	}, nil
}

// consume: the library has one server with a number of workers, which the first
// caller starts for all.
func (s *asynqSession) consume(ctx context.Context, i int, start func([]byte), done func()) error {
	if i != 0 {
		return nil
	}
	srv := asynq.NewServer(s.opt, asynq.Config{Concurrency: s.c, LogLevel: asynq.FatalLevel, TaskCheckInterval: asynqPoll, ShutdownTimeout: time.Second})
	err := srv.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		start(t.Payload())
		done()
		return nil
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	srv.Shutdown()
	return nil
}

func (s *asynqSession) close() { _ = s.client.Close() }
