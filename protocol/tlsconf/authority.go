package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Pair is a certificate and its private key, both PEM.
type Pair struct{ Cert, Key []byte }

// Authority signs certificates: the built-in CA.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// backdate lets a certificate be used at once on a machine whose clock is
// behind; a coordinator may be 5 s off, other machines are not watched.
const backdate = 5 * time.Minute

// NewAuthority makes a CA that is valid for life from now on.
func NewAuthority(name string, now time.Time, life time.Duration) (Pair, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	return sign(template, template, key, key)
}

// ParseAuthority reads a CA with its key.
func ParseAuthority(p Pair) (*Authority, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read CA: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("cannot use CA: the certificate is not one of a CA: give the files that `windlass tls init` wrote")
	}
	return &Authority{cert: pair.Leaf, key: key}, nil
}

// Request says which certificate is wanted.
type Request struct {
	Name        string   // for people and logs
	Coordinator bool     // it may speak on the peer port; else it serves TLS and nothing more
	Hosts       []string // DNS names and IP addresses that clients dial
	Now         time.Time
	Life        time.Duration
}

// roleDomain holds the names that are roles, not hosts.
const roleDomain = ".windlass"

// Issue makes a certificate with a new key.
func (a *Authority) Issue(r Request) (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: r.Name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if r.Coordinator {
		template.DNSNames = []string{CoordinatorName}
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, host := range r.Hosts {
		ip := net.ParseIP(host)
		switch {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case host == "" || strings.ContainsAny(host, ":/@ ") || strings.HasSuffix("."+strings.ToLower(host), roleDomain):
			return Pair{}, fmt.Errorf("cannot issue a certificate for host %q: give DNS names and IP addresses, without port", host)
		default:
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	if err := a.span(template, r.Now, r.Life); err != nil {
		return Pair{}, err
	}
	return sign(template, a.cert, key, a.key)
}

// Renew returns a certificate with the key, names and role of an old one of
// this CA, for another span of time. One file is replaced, so there is no
// moment at which certificate and key do not fit.
func (a *Authority) Renew(old Pair, now time.Time, life time.Duration) ([]byte, error) {
	pair, err := tls.X509KeyPair(old.Cert, old.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate: %w", err)
	}
	leaf := pair.Leaf
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("cannot read certificate: its key cannot sign")
	}
	if err := leaf.CheckSignatureFrom(a.cert); err != nil {
		return nil, fmt.Errorf("cannot renew %q: it is not of this CA: %w", leaf.Subject.CommonName, err)
	}
	template := &x509.Certificate{
		Subject: leaf.Subject, KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage,
		DNSNames: leaf.DNSNames, IPAddresses: leaf.IPAddresses,
		IsCA: leaf.IsCA, BasicConstraintsValid: leaf.IsCA, MaxPathLenZero: leaf.IsCA,
	}
	if leaf.IsCA { // its own: what it has signed stays valid, because name and key do
		template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(life)
	} else if err := a.span(template, now, life); err != nil {
		return nil, err
	}
	p, err := sign(template, a.cert, key, a.key)
	return p.Cert, err
}

// span sets the validity, inside that of the CA.
func (a *Authority) span(t *x509.Certificate, now time.Time, life time.Duration) error {
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(life)
	if t.NotBefore.Before(a.cert.NotBefore) {
		t.NotBefore = a.cert.NotBefore
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		return fmt.Errorf("cannot issue a certificate until %s: the CA ends at %s: renew the CA first (`windlass tls renew --ca`), or ask for fewer days",
			t.NotAfter.UTC().Format(time.DateOnly), a.cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	return key, nil
}

func sign(template, parent *x509.Certificate, key, by crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot sign certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot encode key: %w", err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}, nil
}

// Info is what a person wants to know about a certificate.
type Info struct {
	Name        string    `json:"name"`
	CA          bool      `json:"ca"`
	Coordinator bool      `json:"coordinator"` // may speak on the peer port
	Hosts       []string  `json:"hosts"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

// Inspect reads the first certificate of a PEM file.
func Inspect(raw []byte) (Info, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return Info{}, errors.New("cannot read certificate: it is not a PEM file of one")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Info{}, fmt.Errorf("cannot read certificate: %w", err)
	}
	out := Info{Name: c.Subject.CommonName, CA: c.IsCA, Hosts: []string{}, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
	out.Coordinator = slices.Contains(c.DNSNames, CoordinatorName) && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	for _, name := range c.DNSNames {
		if name != CoordinatorName {
			out.Hosts = append(out.Hosts, name)
		}
	}
	for _, ip := range c.IPAddresses {
		out.Hosts = append(out.Hosts, ip.String())
	}
	return out, nil
}
