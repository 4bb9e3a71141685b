package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"

	"windlass/protocol/client"
)

// trusting returns a client for HTTPS that trusts the CA in a file instead of
// the machine's; nil, the default, without one. name is the setting.
func trusting(name, file string) (*http.Client, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("cannot read %s: %v", name, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usagef("cannot use %s %s: it holds no PEM certificate", name, file)
	}
	transport := client.NewTransport()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport}, nil
}

// tlsRemedy says what to do about a certificate that was not accepted.
func tlsRemedy(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "set WINDLASS_CACERT to the file of the CA (ca.pem)"
	case errors.As(err, &host):
		return "name the coordinator as its certificate does, or issue one with this --host"
	default:
		return ""
	}
}
