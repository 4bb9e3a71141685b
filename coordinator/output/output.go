package output

import (
	"bytes"
	"encoding/json"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// View is how outputs are shown.
type View struct {
	Secret Secret
	Base   string // of URLs, without /v2
	NowMs  int64
	// Inline is the largest output that is shown itself; a larger one is a URL.
	Inline int
}

// Files lists the files of an outcome, in the order in which they were handed in;
// nil without any. Of those that are not kept any more the URL is empty.
func (v View) Files(j *state.Job) []protocol.FileInfo {
	var out []protocol.FileInfo
	for i := range j.Outcome.Files {
		f := &j.Outcome.Files[i]
		out = append(out, v.info(j, i, f.Name, f.Blob.Size))
	}
	return out
}

func (v View) info(j *state.Job, part int, name string, size int64) protocol.FileInfo {
	return protocol.FileInfo{
		Name: name, Size: protocol.FormatBytes(size), SizeBytes: size, Format: protocol.OutputFormat(name),
		URL: URL(v.Secret, v.Base, j, part, v.NowMs),
	}
}

// Document is the output of a completed job: what its handler returned, byte for
// byte, if that is small and nothing was handed in beside it. Files are described
// in it as seed S2 does: its URL, size and format are those of the first one. A
// member that the handler set itself is not touched.
func (v View) Document(j *state.Job) json.RawMessage {
	o := j.Outcome
	own, size := o.Output.Inline, int64(len(o.Output.Inline))
	if ref := o.Output.Ref; ref != nil {
		own, size = nil, ref.Size
	}
	if size > int64(v.Inline) {
		own = nil
	}
	files := v.Files(j)
	switch {
	case len(files) == 0 && own != nil:
		return own
	case size == 0 && len(files) == 0:
		return nil
	case own == nil && size > 0:
		files = append(files, v.info(j, Whole, wholeName, size))
	}
	first := files[0]
	members := []member{
		{"outputUrl", first.URL}, {"size", first.Size}, {"sizeBytes", first.SizeBytes}, {"format", first.Format},
	}
	if len(o.Files) > 0 {
		members = append(members, member{"files", files})
	}
	return extend(own, members)
}

// Partial is what a job that did not complete leaves: what its handler told, and
// the URLs of the files that it handed in until then.
func (v View) Partial(j *state.Job) json.RawMessage {
	urls := []string{}
	for _, f := range v.Files(j) {
		if f.URL != "" {
			urls = append(urls, f.URL)
		}
	}
	if len(urls) == 0 {
		return j.Outcome.Partial
	}
	return extend(j.Outcome.Partial, []member{{"outputFiles", urls}})
}

// member is one of a JSON object; one without a value is left out.
type member struct {
	name  string
	value any
}

// extend adds members to a JSON object without touching its own bytes. A value
// that is no object becomes the member result of one.
func extend(own json.RawMessage, members []member) json.RawMessage {
	own = bytes.TrimSpace(own)
	var has map[string]json.RawMessage
	if len(own) > 0 && own[0] != '{' {
		own = append(append([]byte(`{"result":`), own...), '}')
	}
	if len(own) == 0 || json.Unmarshal(own, &has) != nil {
		own = json.RawMessage("{}")
	}
	out := bytes.TrimSpace(own[:len(own)-1])
	out = out[:len(out):len(out)] // append copies: the bytes belong to the row
	empty := len(has) == 0
	for _, m := range members {
		if _, set := has[m.name]; set || m.value == "" {
			continue
		}
		value, err := protocol.EncodeJSON(m.value)
		if err != nil {
			continue // no member has a value that cannot be encoded
		}
		if !empty {
			out = append(out, ',')
		}
		empty = false
		out = append(out, '"')
		out = append(append(append(out, m.name...), `":`...), value...)
	}
	return append(out, '}')
}
