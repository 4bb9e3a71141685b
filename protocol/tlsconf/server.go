package tlsconf

import (
	"crypto/tls"
	"fmt"
)

// Server returns the configuration of a listener that shows the certificate
// and asks for none. Each connection uses the files as they are then; a file
// that cannot be used leaves the certificate before it in service and is
// reported to warn, which may be nil. Versions 1.2 and 1.3, HTTP/1.1.
func Server(cert, key string, warn func(error)) (*tls.Config, error) {
	src, err := open(Files{Cert: cert, Key: key}, nil, warn)
	if err != nil {
		return nil, fmt.Errorf("cannot set up TLS: %w", err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return src.current().cert, nil },
	}, nil
}
