package protocol

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of the files that a job hands in.
const (
	// MaxOutputFiles bounds the files of one job: their names are in its row.
	MaxOutputFiles = 256
	// MaxOutputFile bounds one file; an agent's disk has it twice for a moment.
	MaxOutputFile = 64 << 30
	// MaxOutputName is the longest name that file systems take, in bytes.
	MaxOutputName = 255
	// OutputTerm is how long stored outputs are kept after the job ended (seed S0).
	OutputTerm = 7 * 24 * time.Hour
)

// OutputFile is one file that a job handed in. Its name is a label: nothing is
// ever stored under it.
type OutputFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// FileInfo is a file of a job as clients see it.
type FileInfo struct {
	Name      string `json:"name"`
	Size      string `json:"size"` // "2.4MB"
	SizeBytes int64  `json:"sizeBytes"`
	Format    string `json:"format,omitempty"` // "pdf"
	URL       string `json:"url,omitempty"`    // signed: it needs no key until it expires; absent after that
}

// GrantRequest asks for leave to upload what an attempt made, before anything is
// sent: POST /agent/v1/outputs. Errors: STALE_ATTEMPT, STORAGE_LIMIT_EXCEEDED.
type GrantRequest struct {
	Agent       AgentID      `json:"agent"`
	Incarnation Incarnation  `json:"incarnation"`
	Job         JobID        `json:"job"`
	Attempt     uint32       `json:"attempt"`
	Output      *BlobRef     `json:"output,omitempty"` // the output's JSON, when it is too large to travel inline
	Files       []OutputFile `json:"files,omitempty"`
}

// GrantResponse holds one grant for each blob, none twice.
type GrantResponse struct {
	Grants []UploadGrant `json:"grants"`
}

// UploadGrant is leave to PUT exactly these bytes to PathOutputs + SHA256, at any
// coordinator, with Token as HeaderGrant.
type UploadGrant struct {
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	Token     string `json:"token"`
	ExpiresAt Time   `json:"expiresAt"`
}

// CheckOutputName refuses a file's name that could mean anything but one file in
// one folder, to whoever saves it: a path, a dot segment in any script, a hidden
// control. It is part of the URL that the file is served under.
func CheckOutputName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > MaxOutputName:
		return fmt.Errorf("it is longer than %d bytes", MaxOutputName)
	case !utf8.ValidString(name):
		return errors.New("it is not UTF-8")
	case name[0] == '.':
		return errors.New("it begins with a dot")
	}
	for _, r := range name {
		if why := badInName(r); why != "" {
			return fmt.Errorf("it holds %s", why)
		}
	}
	return nil
}

func badInName(r rune) string {
	switch r {
	case '/', '\\':
		return "a slash"
	case '%':
		return "a percent sign"
	case '\u2024', '\u2025', '\u2026', '\ufe52', '\uff0e', '\u3002', '\uff61':
		return "a character that looks like a dot"
	case '\u2044', '\u2215', '\u29f8', '\uff0f', '\uff3c', '\u29f5', '\ufe68', '\u2216':
		return "a character that looks like a slash"
	}
	if unicode.Is(unicode.C, r) || unicode.In(r, unicode.Zl, unicode.Zp) {
		return "a control character"
	}
	return ""
}

// OutputFormat is the format that a file's name ends with, in lower case: "pdf".
// It is empty when the name tells none.
func OutputFormat(name string) string {
	return strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))
}

// StorageDetails are the details of a STORAGE_LIMIT_EXCEEDED (seed S0): what
// would be stored, and what the quota leaves, which may be less than nothing.
func StorageDetails(size, remaining int64) map[string]any {
	remaining = max(remaining, 0)
	return map[string]any{
		"estimatedSize": FormatBytes(size), "estimatedSizeBytes": size,
		"remainingQuota": FormatBytes(remaining), "remainingQuotaBytes": remaining,
	}
}
