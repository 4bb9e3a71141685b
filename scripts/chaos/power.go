package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// powerDisk is a file system of its own that can lose its power: what was not
// synced is gone afterwards.
type powerDisk struct {
	image, dir string
}

const (
	powerSize   = 512 << 20  // a few log segments and their copies
	ext4Stop    = 0x8004587d // EXT4_IOC_SHUTDOWN
	ext4NoFlush = 2          // neither data nor the journal is written any more
)

// powerLoss: all coordinators lose their power at the same instant, again and
// again under load; what was not synced is gone (F13). Where nothing can be
// mounted (without root), it is a kill -9 of all, and says so.
func powerLoss(ctx context.Context, b *bed) error {
	var disks []*powerDisk
	defer func() {
		for _, d := range disks {
			d.unmount()
		}
	}()
	for _, n := range b.nodes {
		d, err := newPowerDisk(n.data)
		if err != nil {
			fmt.Println("  no power can be cut here, the coordinators are killed instead:", err)
			break
		}
		disks = append(disks, d)
	}
	if err := b.simple(ctx, 4); err != nil {
		return err
	}
	if _, err := b.startAgent("agent-2", 4); err != nil {
		return err
	}
	l := b.startLoad(ctx)
	defer l.end()
	for range powerCycles {
		if err := b.healthy(ctx); err != nil {
			return err
		}
		if err := l.warm(ctx); err != nil {
			return err
		}
		if err := pause(ctx, time.Duration(b.rand.IntN(500))*time.Millisecond); err != nil {
			return err
		}
		if err := b.powerOff(disks); err != nil {
			return err
		}
	}
	l.end()
	err := b.settle(ctx)
	b.log.Ending()
	b.halt() // before the disks go
	return err
}

// powerCycles are the losses of one run.
const powerCycles = 4

func (b *bed) powerOff(disks []*powerDisk) error {
	a := arena{bed: b, name: "power-loss"}
	over := b.fault(a.ofNodes(0, b.nodes...))
	defer over()
	for _, d := range disks {
		if err := d.cut(); err != nil {
			return err
		}
	}
	var all sync.WaitGroup
	for _, n := range b.nodes {
		all.Go(n.kill)
	}
	all.Wait()
	for _, d := range disks {
		if err := d.remount(); err != nil {
			return err
		}
	}
	return nil
}

// halt kills all coordinators.
func (b *bed) halt() {
	for _, n := range b.nodes {
		n.kill()
	}
}

func newPowerDisk(dir string) (*powerDisk, error) {
	d := &powerDisk{image: dir + ".img", dir: dir}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(powerSize), f.Close(), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := tool("mkfs.ext4", "-q", "-F", d.image); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func tool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (d *powerDisk) mount() error { return tool("mount", "-o", "loop", d.image, d.dir) }

// cut takes the power away: from now on nothing reaches the disk.
func (d *powerDisk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(ext4NoFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Stop, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("cannot cut the power of %s: %w", d.dir, errno)
	}
	return nil
}

func (d *powerDisk) remount() error { return errors.Join(tool("umount", d.dir), d.mount()) }

func (d *powerDisk) unmount() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) }
