package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// serveNATS is the first argument of the process that runs the servers.
	serveNATS = "serve-nats"

	// natsProcs is as many processors as our own coordinators take where there
	// are few: syncs block them.
	natsProcs = "GOMAXPROCS=8"

	// natsConnections is several client hosts: one connection would serialise them.
	natsConnections = 16

	natsStream   = "JOBS"
	natsConsumer = "workers"

	// natsSettle is after the meta leader is known, so that the stream's replicas
	// are placed on all servers.
	natsSettle = 2 * time.Second
)

// natsQueue is JetStream: a work-queue stream in files, synced for every message.
type natsQueue struct {
	replicas int
	urls     []string
}

func newNATS(replicas int) queue { return &natsQueue{replicas: replicas} }

func (q *natsQueue) ready(context.Context) error { return nil }

func (q *natsQueue) start(ctx context.Context, dir string) (func(), error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{serveNATS, dir}
	q.urls = nil
	for range q.replicas {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		route, err := freePort()
		if err != nil {
			return nil, err
		}
		args = append(args, fmt.Sprintf("%d:%d", port, route))
		q.urls = append(q.urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	stop, err := process(ctx, dir, []string{natsProcs}, exe, args...)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			return stop, nil
		}
	}
	stop()
	return nil, errors.New("the servers were not ready in time")
}

// natsServer runs servers in this process until it is interrupted: a directory,
// then client and route port of each.
func natsServer(args []string) error {
	dir, ports := args[0], args[1:]
	var routes []*url.URL
	for _, p := range ports {
		_, route, _ := strings.Cut(p, ":")
		routes = append(routes, &url.URL{Scheme: "nats", Host: "127.0.0.1:" + route})
	}
	var servers []*server.Server
	for i, p := range ports {
		s, err := natsNode(dir, i, p, routes)
		if err != nil {
			return err
		}
		go s.Start()
		servers = append(servers, s)
	}
	if err := natsReady(servers); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

func natsNode(dir string, i int, ports string, routes []*url.URL) (*server.Server, error) {
	clients, route, _ := strings.Cut(ports, ":")
	port, err := strconv.Atoi(clients)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprint("s", i)), SyncAlways: true,
		JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 50 << 30,
	}
	if len(routes) > 1 {
		routePort, err := strconv.Atoi(route)
		if err != nil {
			return nil, err
		}
		o.Cluster = server.ClusterOpts{Name: "peers", Host: "127.0.0.1", Port: routePort}
		o.Routes = routes
	}
	return server.NewServer(o)
}

func natsReady(servers []*server.Server) error {
	for _, s := range servers {
		if !s.ReadyForConnections(startLimit) {
			return errors.New("a server was not ready in time")
		}
	}
	if len(servers) == 1 {
		return nil
	}
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, s := range servers {
			if s.JetStreamIsLeader() {
				time.Sleep(natsSettle)
				return nil
			}
		}
	}
	return errors.New("no server leads in time")
}

type natsSession struct {
	conns     []*nats.Conn
	streams   []jetstream.JetStream
	consumers []jetstream.Consumer
}

func (q *natsQueue) open(ctx context.Context, _ int) (session, error) {
	s := &natsSession{}
	for i := range natsConnections {
		nc, err := nats.Connect(q.urls[i%len(q.urls)])
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, nc)
		js, err := jetstream.New(nc)
		if err != nil {
			s.close()
			return nil, err
		}
		s.streams = append(s.streams, js)
	}
	if err := s.create(ctx, q.replicas); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *natsSession) create(ctx context.Context, replicas int) error {
	st, err := s.streams[0].CreateStream(ctx, jetstream.StreamConfig{
		Name: natsStream, Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: replicas,
	})
	if err != nil {
		return fmt.Errorf("cannot create stream: %w", err)
	}
	_, err = st.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: natsConsumer, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 100_000, MaxWaiting: 20_000, Replicas: replicas,
	})
	if err != nil {
		return fmt.Errorf("cannot create consumer: %w", err)
	}
	for _, js := range s.streams {
		c, err := js.Consumer(ctx, natsStream, natsConsumer)
		for end := time.Now().Add(startLimit); err != nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			c, err = js.Consumer(ctx, natsStream, natsConsumer)
		}
		if err != nil {
			return fmt.Errorf("cannot find consumer: %w", err)
		}
		s.consumers = append(s.consumers, c)
	}
	return nil
}

// publishLimit is longer than any election.
const publishLimit = 20 * time.Second

func (s *natsSession) producer(i int) (func([]byte) error, error) {
	js := s.streams[i%len(s.streams)]
	return func(p []byte) error {
		ctx, cancel := context.WithTimeout(context.Background(), publishLimit)
		defer cancel()
		_, err := js.Publish(ctx, "jobs.a", p)
		return err
	}, nil
}

func (s *natsSession) consume(ctx context.Context, i int, start func([]byte), done func()) error {
	c := s.consumers[i%len(s.consumers)]
	for ctx.Err() == nil {
		batch, err := c.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			start(m.Data())
			if err := m.DoubleAck(ctx); err != nil {
				return err
			}
			done()
		}
	}
	return nil
}

func (s *natsSession) close() {
	for _, nc := range s.conns {
		nc.Close()
	}
}
