package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol/tlsconf"
)

const (
	// caDays is the life of the built-in CA: it outlives the machines.
	caDays = 3650

	// certDays is the life of a certificate: long enough to renew once a year,
	// short enough that it is not forgotten how.
	certDays = 365

	day = 24 * time.Hour
)

func (a *app) tlsCommand() *cobra.Command {
	cmd := a.nounCommand("tls", "Make certificates for coordinators", nil, a.tlsInitCommand(), a.tlsIssueCommand(), a.tlsRenewCommand())
	cmd.Long = `Make the certificates of a cluster with a CA of its own.

A coordinator's certificate serves its API (http.tls) and its peer port (peer.tls), where both sides show one.
Keep ca-key.pem off the coordinators: whoever has it can join the cluster. Files that are replaced are used at once,
without a restart.`
	return cmd
}

// made is one certificate as a command reports it.
type made struct {
	File string `json:"file"`
	Key  string `json:"keyFile"`
	tlsconf.Info
}

func (a *app) printMade(list []made) error {
	v := view{doc: list, table: func(w io.Writer) {
		rows := make([]table.Row, len(list))
		for i, m := range list {
			role := "server"
			switch {
			case m.CA:
				role = "CA"
			case m.Coordinator:
				role = "coordinator"
			}
			rows[i] = table.Row{m.File, role, strings.Join(m.Hosts, " "), m.NotAfter.Format(time.DateOnly)}
		}
		writeTable(w, table.Row{"FILE", "ROLE", "HOSTS", "ENDS"}, rows)
	}}
	for _, m := range list {
		v.rows, v.names = append(v.rows, m), append(v.names, m.File)
	}
	return a.print(v)
}

func (a *app) tlsInitCommand() *cobra.Command {
	dir, name, days := ".", "Windlass CA", caDays
	cmd := &cobra.Command{
		Use: "init", Short: "Make a CA: ca.pem and ca-key.pem", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			if days < 1 {
				return usagef("--days is %d: give a number above 0", days)
			}
			pair, err := tlsconf.NewAuthority(name, time.Now(), time.Duration(days)*day)
			if err != nil {
				return err
			}
			m, err := writePair(dir, caName, pair, false)
			if err != nil {
				return err
			}
			a.sayf("give ca.pem to everybody who connects, and keep %s where only you can read it\n", m.Key)
			return a.printMade([]made{m})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "directory of the files")
	cmd.Flags().StringVar(&name, "name", name, "name in the certificate")
	cmd.Flags().IntVar(&days, "days", days, "how long it is valid")
	return cmd
}

func (a *app) tlsIssueCommand() *cobra.Command {
	var hosts []string
	dir, days, server, force := ".", certDays, false, false
	cmd := &cobra.Command{
		Use: "issue NAME", Short: "Make a coordinator's certificate: NAME.pem and NAME-key.pem", Args: args("NAME"),
		Example: `  windlass tls issue c1 --host 10.0.0.1 --host c1.example.com`,
		RunE: func(_ *cobra.Command, argv []string) error {
			if err := checkCertName(argv[0]); err != nil {
				return err
			}
			if days < 1 || len(hosts) == 0 {
				return usagef("give --host for each name and address that clients dial, and --days above 0")
			}
			ca, err := loadAuthority(dir)
			if err != nil {
				return err
			}
			pair, err := ca.Issue(tlsconf.Request{Name: argv[0], Coordinator: !server, Hosts: hosts, Now: time.Now(), Life: time.Duration(days) * day})
			if err != nil {
				return err
			}
			m, err := writePair(dir, argv[0], pair, force)
			if err != nil {
				return err
			}
			return a.printMade([]made{m})
		},
	}
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "DNS name or IP address that clients dial; may be repeated")
	cmd.Flags().StringVar(&dir, "dir", dir, "directory of ca.pem, ca-key.pem and the new files")
	cmd.Flags().IntVar(&days, "days", days, "how long it is valid")
	cmd.Flags().BoolVar(&server, "server", false, "only serve TLS with it (a proxy): it cannot join the cluster")
	cmd.Flags().BoolVar(&force, "force", false, "replace the files of that name")
	return cmd
}

func (a *app) tlsRenewCommand() *cobra.Command {
	dir, days, self := ".", certDays, false
	cmd := &cobra.Command{
		Use: "renew [NAME...]", Short: "Make certificates valid for longer, with the same keys, names and roles", Args: cobra.ArbitraryArgs,
		Example: `  windlass tls renew c1 c2 c3
  windlass tls renew --ca --days 3650`,
		RunE: func(_ *cobra.Command, argv []string) error {
			if self {
				argv = append([]string{caName}, argv...)
			}
			if len(argv) == 0 || days < 1 {
				return usagef("name the certificates to renew (c1 for c1.pem), or --ca, and --days above 0")
			}
			ca, err := loadAuthority(dir)
			if err != nil {
				return err
			}
			var out []made
			for _, name := range argv {
				m, err := renew(ca, dir, name, time.Duration(days)*day)
				if err != nil {
					return err
				}
				out = append(out, m)
			}
			return a.printMade(out)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "directory of the files")
	cmd.Flags().IntVar(&days, "days", days, "how long they are valid from now on")
	cmd.Flags().BoolVar(&self, "ca", false, "renew ca.pem itself; what it has signed stays valid")
	return cmd
}

func renew(ca *tlsconf.Authority, dir, name string, life time.Duration) (made, error) {
	old, err := readPair(dir, name)
	if err != nil {
		return made{}, err
	}
	if old.Cert, err = ca.Renew(old, time.Now(), life); err != nil {
		return made{}, err
	}
	certFile, keyFile := pairFiles(dir, name)
	if err := writeWhole(certFile, old.Cert, certMode); err != nil {
		return made{}, err
	}
	info, err := tlsconf.Inspect(old.Cert)
	return made{certFile, keyFile, info}, err
}

// caName is the name of the CA's own files.
const caName = "ca"

func checkCertName(name string) error {
	const maxCertName = 63 // a label of a host name
	plain := name != "" && len(name) <= maxCertName && name[0] != '.' && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	})
	if !plain || name == caName || strings.HasSuffix(name, "-key") || strings.HasSuffix(name, ".pem") {
		return usagef("cannot name a certificate %q: use letters, digits, dots and dashes, for example the host's name", name)
	}
	return nil
}

// Whoever connects reads certificates; a key is for one user.
const (
	certMode fs.FileMode = 0o644
	keyMode  fs.FileMode = 0o600
)

func pairFiles(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
}

func loadAuthority(dir string) (*tlsconf.Authority, error) {
	pair, err := readPair(dir, caName)
	if err != nil {
		return nil, fmt.Errorf("%w: make a CA with `windlass tls init`, or name its directory with --dir", err)
	}
	return tlsconf.ParseAuthority(pair)
}

func readPair(dir, name string) (tlsconf.Pair, error) {
	certFile, keyFile := pairFiles(dir, name)
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tlsconf.Pair{}, fmt.Errorf("cannot read certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tlsconf.Pair{}, fmt.Errorf("cannot read key: %w", err)
	}
	return tlsconf.Pair{Cert: cert, Key: key}, nil
}

// writePair writes new files. The key is first: a coordinator that reloads
// between the two keeps what it has.
func writePair(dir, name string, p tlsconf.Pair, replace bool) (made, error) {
	certFile, keyFile := pairFiles(dir, name)
	for _, file := range []string{keyFile, certFile} {
		if _, err := os.Lstat(file); err == nil && !replace {
			return made{}, &exitError{code: exitConflict, err: fmt.Errorf("cannot write %s: it exists: renew it with `windlass tls renew`, or choose another name or --dir", file)}
		}
	}
	if err := errors.Join(writeWhole(keyFile, p.Key, keyMode), writeWhole(certFile, p.Cert, certMode)); err != nil {
		return made{}, err
	}
	info, err := tlsconf.Inspect(p.Cert)
	return made{certFile, keyFile, info}, err
}

// writeWhole replaces a file: nobody reads half of it, also after a crash.
func writeWhole(path string, raw []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
