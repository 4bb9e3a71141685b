package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files names PEM files. CA is empty where nobody's certificate is checked.
type Files struct{ CA, Cert, Key string }

// material is what was read from the files.
type material struct {
	cert  *tls.Certificate
	roots *x509.CertPool // nil without a CA file
}

// source reads the files again when they changed. There is no goroutine: it
// looks whenever a connection begins, which costs three stat calls.
type source struct {
	files Files
	check func(*material) error
	warn  func(error)

	mu     sync.Mutex
	now    *material
	stamps [3]stamp  // of the newest attempt to read, good or not
	warned time.Time // that the certificate ends soon
}

// stamp tells one content of a file from the next.
type stamp struct {
	info os.FileInfo // nil when the file is not there
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// open reads the files for the first time. check refuses what must not be
// served; warn hears of files that could not replace the ones in use, and may
// be nil.
func open(f Files, check func(*material) error, warn func(error)) (*source, error) {
	s := &source{files: f, check: check, warn: warn}
	if warn == nil {
		s.warn = func(error) {}
	}
	s.stamps = s.look()
	var err error
	if s.now, err = s.read(); err != nil {
		return nil, err
	}
	s.remind()
	return s, nil
}

// current returns the newest good content of the files.
func (s *source) current() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamps := s.look()
	same := true
	for i := range stamps {
		same = same && stamps[i].same(s.stamps[i])
	}
	if same {
		s.remind()
		return s.now
	}
	// Looked at before they are read: what changes in between is read again.
	s.stamps = stamps
	next, err := s.read()
	if err != nil {
		s.warn(fmt.Errorf("the certificate in use stays: %w", err))
		return s.now
	}
	s.now, s.warned = next, time.Time{}
	s.remind()
	return next
}

func (s *source) look() [3]stamp {
	var out [3]stamp
	for i, path := range []string{s.files.CA, s.files.Cert, s.files.Key} {
		if info, err := os.Stat(path); path != "" && err == nil {
			out[i] = stamp{info}
		}
	}
	return out
}

func (s *source) read() (*material, error) {
	cert, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot load certificate %s with key %s: %w: both must be PEM files of the same pair", s.files.Cert, s.files.Key, err)
	}
	m := &material{cert: &cert}
	if s.files.CA != "" {
		raw, err := os.ReadFile(s.files.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot load CA certificate: %w", err)
		}
		if m.roots, err = roots(raw); err != nil {
			return nil, fmt.Errorf("cannot load CA certificate %s: %w", s.files.CA, err)
		}
	}
	if err := s.lifetime(m); err != nil {
		return nil, err
	}
	if s.check != nil {
		if err := s.check(m); err != nil {
			return nil, fmt.Errorf("cannot use certificate %s: %w", s.files.Cert, err)
		}
	}
	return m, nil
}

// soon is when an operator is told that a certificate ends: two weeks are a
// holiday and a working day.
const soon = 14 * 24 * time.Hour

// remindEvery is how often: a line a day is read, and does not fill a log.
const remindEvery = 24 * time.Hour

func (s *source) lifetime(m *material) error {
	leaf, now := m.cert.Leaf, time.Now()
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("cannot use certificate %s: it ended at %s: make a new one (`windlass tls renew`)", s.files.Cert, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("cannot use certificate %s: it begins at %s: set this machine's clock", s.files.Cert, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// remind says now and again that the certificate ends soon.
func (s *source) remind() {
	end, now := s.now.cert.Leaf.NotAfter, time.Now()
	if now.Add(soon).Before(end) || now.Sub(s.warned) < remindEvery {
		return
	}
	s.warned = now
	s.warn(fmt.Errorf("certificate %s ends at %s: make a new one (`windlass tls renew`), no restart is needed", s.files.Cert, end.UTC().Format(time.RFC3339)))
}

// roots reads one or more CA certificates, so that an old and a new CA can be
// trusted side by side while certificates move from one to the other.
func roots(raw []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		block, raw = pem.Decode(raw)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s: give only certificates to those who check them", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		found++
	}
	if found == 0 || len(bytes.TrimSpace(raw)) > 0 {
		return nil, errors.New("it is not a PEM file of certificates")
	}
	return pool, nil
}
