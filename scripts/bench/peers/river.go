package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	// riverConns is within PostgreSQL's usual 100.
	riverConns = 80

	// riverCooldown and riverPoll are the shortest that the library takes well.
	riverCooldown = time.Millisecond
	riverPoll     = 50 * time.Millisecond
)

// riverQueue is River on PostgreSQL with synchronous_commit on, the default.
type riverQueue struct{ url string }

func newRiver() queue { return &riverQueue{} }

func (q *riverQueue) ready(ctx context.Context) error {
	if _, err := postgres("initdb"); err == nil {
		return nil
	}
	if err := apt(ctx, "pg_ctlcluster", "postgresql"); err != nil {
		return err
	}
	_, err := postgres("initdb")
	return err
}

// postgres finds a program that Debian keeps outside of the path.
func postgres(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("cannot find %s of PostgreSQL", name)
	}
	return found[len(found)-1], nil
}

// asPostgres runs a program as a user that is not root, which PostgreSQL refuses.
func asPostgres(name string, args ...string) (string, []string) {
	if os.Geteuid() != 0 {
		return name, args
	}
	return "runuser", append([]string{"-u", "postgres", "--", name}, args...)
}

func (q *riverQueue) start(ctx context.Context, dir string) (func(), error) {
	data := filepath.Join(dir, "pg")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if out, err := exec.Command("chown", "postgres", data).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot give the data directory away: %w: %s", err, out)
		}
	}
	initdb, err := postgres("initdb")
	if err != nil {
		return nil, err
	}
	name, args := asPostgres(initdb, "-D", data, "-A", "trust", "--no-sync")
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = data
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot make database: %w: %s", err, tail(string(out)))
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := postgres("postgres")
	if err != nil {
		return nil, err
	}
	name, args = asPostgres(server, "-D", data, "-p", fmt.Sprint(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "synchronous_commit=on")
	stop, err := process(ctx, data, nil, name, args...)
	if err != nil {
		return nil, err
	}
	who := "postgres"
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		who = u.Username
	}
	q.url = fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", who, port)
	if err := listening(ctx, fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

type riverArgs struct {
	Payload rawJSON `json:"p"`
}

// Kind implements river.JobArgs.
func (riverArgs) Kind() string { return "job" }

// rawJSON is passed through unread.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// UnmarshalJSON implements json.Unmarshaler.
func (r *rawJSON) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

type riverSession struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	c      int
}

func (q *riverQueue) open(ctx context.Context, c int) (session, error) {
	conf, err := pgxpool.ParseConfig(q.url)
	if err != nil {
		return nil, err
	}
	conf.MaxConns = riverConns
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	s := &riverSession{pool: pool, c: c}
	// It accepts connections a moment before it can serve them.
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = pool.Ping(ctx); err == nil || !strings.Contains(err.Error(), "starting up") {
			break
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err == nil {
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		s.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{})
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *riverSession) producer(int) (func([]byte) error, error) {
	return func(p []byte) error {
		_, err := s.client.Insert(context.Background(), riverArgs{Payload: p}, nil)
		return err
	}, nil
}

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	start func([]byte)
	done  func()
}

// Work implements river.Worker.
func (w *riverWorker) Work(_ context.Context, j *river.Job[riverArgs]) error {
	w.start(j.Args.Payload)
	w.done()
	return nil
}

// consume: the library has one client with a number of workers, which the first
// caller starts for all.
func (s *riverSession) consume(ctx context.Context, i int, start func([]byte), done func()) error {
	if i != 0 {
		return nil
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{start: start, done: done})
	c, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: s.c}},
		Workers: workers, FetchCooldown: riverCooldown, FetchPollInterval: riverPoll,
	})
	if err != nil {
		return err
	}
	if err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.StopAndCancel(stop)
	return nil
}

func (s *riverSession) close() { s.pool.Close() }
