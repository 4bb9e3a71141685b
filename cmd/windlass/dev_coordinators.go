package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"windlass/coordinator"
	"windlass/coordinator/auth"
	"windlass/protocol/client"
)

// maxDevCoordinators is the largest cluster that is worth trying on one machine.
const maxDevCoordinators = 7

// devListenAll binds an address for each coordinator: the first is chosen as
// for one alone, the others follow it.
func devListenAll(addr string, n int) ([]net.Listener, error) {
	first, err := devListen(addr)
	if err != nil {
		return nil, err
	}
	listeners := []net.Listener{first}
	for len(listeners) < n {
		next, err := devListenBehind(addr)
		if err != nil {
			return nil, errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, next)
	}
	return listeners, nil
}

// devListenBehind binds the next free port behind the one that was asked for.
func devListenBehind(addr string) (net.Listener, error) {
	if addr == "" {
		return devListenNext()
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	first, err := strconv.Atoi(port)
	if err != nil || first == 0 {
		return devListen(addr)
	}
	for next := first + 1; next < first+devPorts; next++ {
		if ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(next))); err == nil {
			return ln, nil
		}
	}
	return nil, fmt.Errorf("cannot listen: no port behind %s is free; choose another address with --http", addr)
}

func closeAll(listeners []net.Listener) error {
	var err error
	for _, ln := range listeners {
		err = errors.Join(err, closed(ln.Close()))
	}
	return err
}

// startCoordinators runs one coordinator on each listener. Several have a
// directory each below the data directory, and form a cluster.
func (d *devServer) startCoordinators(fail context.CancelCauseFunc, listeners []net.Listener, keys *auth.Keys) error {
	cfg := coordinator.DefaultConfig()
	cfg.Limits.WebhookAllow = []string{"127.0.0.0/8", "::1"} // receivers of whoever tries it
	peers, err := d.peerAddresses(len(listeners))
	if err != nil {
		return err
	}
	if len(listeners) > 1 {
		cfg.Join, cfg.Expect = peers, len(listeners)
	}
	for i, ln := range listeners {
		cfg.Data, cfg.Peer.Listen = d.data, peers[i]
		if len(listeners) > 1 {
			cfg.Data = filepath.Join(d.data, "coordinator-"+strconv.Itoa(i+1))
		}
		c, err := coordinator.NewWith(cfg, coordinator.Options{Listener: ln, Keys: keys, Version: d.app.version}, d.log)
		if err != nil {
			return err
		}
		d.coordinators = append(d.coordinators, startPart(c.Run, fail))
		d.urls = append(d.urls, "http://"+reachable(ln.Addr().(*net.TCPAddr)))
	}
	d.client, err = client.New(client.Config{Addrs: d.urls, Key: d.key, UserAgent: "windlass-dev/" + d.app.version})
	return err
}

// peerAddresses are the addresses at which the coordinators know each other.
// Those of several are kept beside the data, because a cluster remembers them.
func (d *devServer) peerAddresses(n int) ([]string, error) {
	file := filepath.Join(d.data, "peers")
	text, err := os.ReadFile(file)
	if err == nil {
		peers := strings.Fields(string(text))
		if len(peers) != n {
			return nil, usagef("%s is of a cluster of %d: run it with --coordinators %d, or choose another --data", d.data, len(peers), len(peers))
		}
		return peers, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read peer addresses: %w", err)
	}
	if n == 1 {
		return []string{net.JoinHostPort(devHost, "0")}, nil // nobody joins it
	}
	if _, err := os.Stat(filepath.Join(d.data, "coordinator")); err == nil {
		return nil, usagef("%s is of one coordinator alone: run it without --coordinators, or choose another --data", d.data)
	}
	var listeners []net.Listener
	var peers []string
	for range n {
		ln, err := net.Listen("tcp", net.JoinHostPort(devHost, "0"))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot find a free port: %w", err), closeAll(listeners))
		}
		listeners, peers = append(listeners, ln), append(peers, ln.Addr().String())
	}
	if err := closeAll(listeners); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(strings.Join(peers, "\n")+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("cannot keep peer addresses: %w", err)
	}
	return peers, nil
}

// stopParts ends the roles side by side, because coordinators that stop one
// after the other elect in between.
func stopParts(parts []*part) error {
	for _, p := range parts {
		p.cancel()
	}
	var err error
	for _, p := range parts {
		err = errors.Join(err, p.stop())
	}
	return err
}
