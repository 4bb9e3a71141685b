package builtin

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"windlass/protocol"
	"windlass/protocol/netguard"
)

const (
	// maxImageBytes bounds one image: a photo of 50 megapixels is smaller.
	maxImageBytes = 32 << 20
	// imageTime bounds one download.
	imageTime = 30 * time.Second
	// shownBytes is how much of a source an output repeats.
	shownBytes = 200
)

// imageSource reads images that a job names. Addresses follow the rule of
// webhooks: nothing that only this host can reach.
type imageSource struct {
	rule   *netguard.Rule
	client *http.Client
}

func newImageSource(rule *netguard.Rule) *imageSource {
	return &imageSource{rule: rule, client: (&netguard.Guard{Rule: rule}).Client()}
}

// networks are those that an operator opens beside the public ones, as a flag.
type networks []netip.Prefix

// String implements flag.Value.
func (n *networks) String() string { return fmt.Sprint([]netip.Prefix(*n)) }

// Set implements flag.Value.
func (n *networks) Set(text string) error {
	list, err := netguard.ParseNetworks([]string{text})
	*n = append(*n, list...)
	return err
}

func (n *networks) rule() *netguard.Rule { return &netguard.Rule{Allow: *n} }

// serveImages makes the image handler ready.
func (s *server) serveImages(rule *netguard.Rule, slots int) {
	s.handler = images{source: newImageSource(rule)}
	s.channel.send(reply{Type: "hello", Engine: engineName, Slots: slots})
	s.channel.send(reply{Type: "ready"})
}

// fetchError is an image that could not be read; again says whether it may be
// there another time.
type fetchError struct {
	reason string
	again  bool
}

func (e *fetchError) Error() string { return e.reason }

func (s *imageSource) read(ctx context.Context, source string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(source, "data:"); ok {
		return readDataURI(rest)
	}
	if why := s.rule.CheckURL(source, protocol.MaxURL); why != "" {
		return nil, &fetchError{reason: "the address " + why}
	}
	ctx, cancel := context.WithTimeout(ctx, imageTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, &fetchError{reason: "the address is no URL"}
	}
	req.Header.Set("Accept", "image/*")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &fetchError{reason: fmt.Sprintf("the address answered with status %d", resp.StatusCode), again: resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxImageBytes+1))
	if err != nil {
		return nil, &fetchError{reason: "the download broke off", again: true}
	}
	if len(data) > maxImageBytes {
		return nil, tooLargeImage()
	}
	return data, nil
}

// unreachable says why there was no answer, without what only this host knows.
func unreachable(err error) error {
	var denied *netguard.Denied
	if errors.As(err, &denied) {
		// Not the address: what a name leads to is this network's affair.
		return &fetchError{reason: "the address may not be read from: " + denied.Reason}
	}
	return &fetchError{reason: "the address cannot be reached", again: true}
}

func tooLargeImage() error {
	return &fetchError{reason: "the image is larger than " + protocol.FormatBytes(maxImageBytes)}
}

// readDataURI reads what follows "data:" (RFC 2397), base64 only.
func readDataURI(rest string) ([]byte, error) {
	kind, data, ok := strings.Cut(rest, ",")
	if !ok || !strings.HasPrefix(kind, "image/") || !strings.HasSuffix(kind, ";base64") {
		return nil, &fetchError{reason: "the data is no data:image/...;base64,... URI"}
	}
	if base64.StdEncoding.DecodedLen(len(data)) > maxImageBytes {
		return nil, tooLargeImage()
	}
	b, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, &fetchError{reason: "the data is no base64"}
	}
	return b, nil
}

// shownSource is a source as an output repeats it.
func shownSource(source string) string {
	if kind, _, ok := strings.Cut(source, ","); ok && strings.HasPrefix(source, "data:") {
		return kind
	}
	if len(source) > shownBytes {
		return strings.ToValidUTF8(source[:shownBytes], "") + "..."
	}
	return source
}
