// Command attacks tries to break into a coordinator and fails when it can. See
// DESIGN.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"
)

// attack is one line of the table. It returns how often it tried and, when it
// succeeded or the victim suffered, what happened.
type attack struct {
	number, name string
	run          func(context.Context, *victim) (tries int, err error)
}

func attacks() []attack {
	return []attack{
		{"S1", "request smuggling and bad framing", smuggle},
		{"S2", "paths that mean another path", twistPaths},
		{"S3", "500 slow senders of large bodies", sendSlowly},
		{"S4", "guessing keys; keys in addresses", guessKeys},
		{"S5", "more than a key's permissions, on every route", escalate},
		{"S6", "ids of another organisation, on every route", reachAcross},
		{"S7", "an idempotency key of another organisation", stealKey},
		{"S11", "callbacks to addresses inside", callInside},
		{"S13", "callbacks with another scheme, userinfo or fragment", callOddly},
		{"S14", "signatures that are confused with one another", confuseSignatures},
		{"S15", "secrets in the answers and logs of the server", findSecrets},
		{"S16", "paths in the place of ids", traverse},
		{"S18", "status floods of one key", flood},
		{"S19", "giant, deep and ambiguous JSON", abuseJSON},
		{"S20", "line breaks in values that become headers and events", inject},
		{"S21", "escapes and lines for the log", forgeLog},
		{"S23", "debugging and metrics without the right to", peek},
		{"S28", "an agent that lies", lie},
	}
}

// elsewhere are the attacks that Go tests make, because they look inside.
func elsewhere() [][3]string {
	return [][3]string{
		{"S8", "join tokens", "keys of agents: TestRoutesHoldToTheirPermission"},
		{"S10", "strangers at the peer port", "coordinator/peer: TestStrangersAreRefused, FuzzPreamble"},
		{"S12", "names that lead elsewhere when dialled", "protocol/netguard: TestRebindingIsDenied"},
		{"S22", "values of one request in the answer of another", "coordinator/api: TestNothingLeaksBetweenRequests"},
		{"S25", "edited backups", "coordinator/fsm: TestEveryFlippedByteIsFound"},
		{"S27", "old TLS", "protocol/tlsconf"},
	}
}

// limit ends a run that hangs.
const limit = 5 * time.Minute

func main() {
	binary := flag.String("binary", "bin/windlass", "the program to attack")
	only := flag.String("only", "", "one attack, by its number")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, *binary, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, only string) error {
	v, err := newVictim(ctx, binary)
	if err != nil {
		return err
	}
	defer v.stop()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nattack\ttries\tresult")
	failed, total := 0, 0
	for _, a := range attacks() {
		if only != "" && only != a.number {
			continue
		}
		total++
		tries, err := a.run(ctx, v)
		if err == nil {
			err = v.healthy(ctx)
		}
		result := "failed, as it should"
		if err != nil {
			failed++
			result = "SUCCEEDED: " + err.Error()
		}
		fmt.Fprintf(w, "%s %s\t%d\t%s\n", a.number, a.name, tries, result)
	}
	if only == "" {
		for _, e := range elsewhere() {
			fmt.Fprintf(w, "%s %s\t\t%s\n", e[0], e[1], e[2])
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("\n%d passed, %d failed\n", total-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d attacks succeeded", failed, total)
	}
	return nil
}
