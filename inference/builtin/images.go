package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"slices"
	"time"

	"windlass/inference"
	"windlass/inference/builtin/picture"
	"windlass/protocol"
)

// Bounds of the image input.
const (
	maxImages       = 100
	maxImageSide    = 8192
	defaultSide     = 1024
	defaultQuality  = 85
	maxMarkText     = 100
	defaultMarkText = "Windlass"

	stepImages = "processing_images" // seed S2
)

// The operations, in the order in which they are done.
const (
	opResize    = "resize"
	opEnhance   = "enhance"
	opWatermark = "watermark"
)

// images processes pictures (seed S0, "Batch Image Processing"). Every result is
// a file of the job.
type images struct {
	source *imageSource
}

type imagesOutput struct {
	Images    []imageOutput `json:"images"`
	Processed int           `json:"imagesProcessed"`
	Total     int           `json:"totalImages"`
	Failed    []imageFailed `json:"failed,omitempty"`
	Ignored   []string      `json:"ignored"` // inputs without effect
}

type imageOutput struct {
	Source     string   `json:"source"` // a URL, or what the data was
	File       string   `json:"file"`   // its name among the job's files
	Format     string   `json:"format"`
	Width      int      `json:"width"`
	Height     int      `json:"height"`
	Size       string   `json:"size"`
	SizeBytes  int64    `json:"sizeBytes"`
	Operations []string `json:"operations"`
}

type imageFailed struct {
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// imagesProgress is the metadata of seed S2's sample.
type imagesProgress struct {
	Processed int     `json:"imagesProcessed"`
	Total     int     `json:"totalImages"`
	Average   float64 `json:"averageProcessingTime"` // seconds
}

// imagesJob is what one job asks for.
type imagesJob struct {
	sources       []string
	operations    []string
	format        string // empty: as it came
	width, height int
	quality       int
	mark          string
}

func (h images) run(ctx context.Context, input json.RawMessage, t *teller) (json.RawMessage, error) {
	in := readFields(input)
	job := in.imagesJob()
	if in.err != nil {
		return nil, in.err
	}
	out := imagesOutput{Images: []imageOutput{}, Total: len(job.sources), Ignored: in.unknown()}
	started := time.Now()
	retryable := false
	for i, source := range job.sources {
		tellImages(t, &out, i, started)
		one, err := h.process(ctx, t, &job, i, source)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			var f *fetchError
			retryable = retryable || errors.As(err, &f) && f.again
			out.Failed = append(out.Failed, imageFailed{shownSource(source), err.Error()})
			t.log(fmt.Sprintf("image %d of %d failed: %v", i+1, out.Total, err))
			continue
		}
		out.Images = append(out.Images, *one)
		out.Processed++
	}
	tellImages(t, &out, out.Total, started)
	if len(out.Failed) > 0 {
		return nil, out.failure(retryable)
	}
	return protocol.EncodeJSON(out)
}

// failure is the end of a job some of whose images failed; the others are its
// partial results.
func (o *imagesOutput) failure(retryable bool) error {
	partial, err := protocol.EncodeJSON(o)
	if err != nil {
		return err
	}
	return &inference.Failure{
		Code: "IMAGES_FAILED", Message: fmt.Sprintf("%d of %d images failed: %s", len(o.Failed), o.Total, o.Failed[0].Reason),
		Details: map[string]any{"failed": o.Failed}, Retryable: retryable, Partial: partial,
	}
}

// process makes one file.
func (h images) process(ctx context.Context, t *teller, job *imagesJob, i int, source string) (*imageOutput, error) {
	data, err := h.source.read(ctx, source)
	if err != nil {
		return nil, err
	}
	img, format, err := picture.Decode(data)
	if err != nil {
		return nil, err
	}
	changed, err := job.apply(img)
	if err != nil {
		return nil, err
	}
	if job.format != "" {
		format = job.format
	} else if !slices.Contains(picture.Formats(), format) {
		format = picture.PNG // a GIF's first frame
	}
	encoded, err := picture.Encode(changed, format, job.quality)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("image-%03d.%s", i+1, format)
	if err := t.file(name, encoded); err != nil {
		return nil, err
	}
	b := changed.Bounds()
	return &imageOutput{
		Source: shownSource(source), File: name, Format: format, Width: b.Dx(), Height: b.Dy(), Operations: job.operations,
		Size: protocol.FormatBytes(int64(len(encoded))), SizeBytes: int64(len(encoded)),
	}, nil
}

func (j *imagesJob) apply(img image.Image) (*image.RGBA, error) {
	width, height := maxImageSide, maxImageSide
	if slices.Contains(j.operations, opResize) {
		width, height = j.width, j.height
	}
	changed := picture.Resize(img, width, height)
	if slices.Contains(j.operations, opEnhance) {
		picture.Enhance(changed)
	}
	if slices.Contains(j.operations, opWatermark) {
		if err := picture.Watermark(changed, j.mark); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func tellImages(t *teller, out *imagesOutput, done int, started time.Time) {
	percent := 100 * float64(done) / float64(max(out.Total, 1))
	r := reply{Percent: &percent, Step: stepImages}
	p := imagesProgress{Processed: out.Processed, Total: out.Total}
	if elapsed := time.Since(started).Seconds(); done > 0 && elapsed > 0 {
		p.Average = elapsed / float64(done)
		left := p.Average * float64(out.Total-done)
		r.ETA = &left
		r.Throughput = &protocol.Throughput{Value: float64(done) / elapsed, Unit: "images/s"}
	}
	r.Metadata = p
	t.progress(r)
}

// imagesJob reads the input of seed S0's second example.
func (f *fields) imagesJob() imagesJob {
	j := imagesJob{
		sources:    f.texts("images", nil, maxImages),
		operations: f.texts("operations", []string{opResize}, maxImages),
		format:     f.text("output_format"),
		width:      int(f.whole("width", defaultSide, 1, maxImageSide)),
		height:     int(f.whole("height", defaultSide, 1, maxImageSide)),
		quality:    int(f.whole("quality", defaultQuality, 1, 100)),
		mark:       f.text("watermark"),
	}
	if j.sources == nil {
		f.fail("images", "is required: a list of addresses, or of data URIs such as data:image/png;base64,...")
	}
	for _, op := range j.operations {
		if op != opResize && op != opEnhance && op != opWatermark {
			f.fail("operations", "may have resize, enhance and watermark")
		}
	}
	if j.format == "jpg" {
		j.format = picture.JPEG
	}
	if j.format != "" && !slices.Contains(picture.Formats(), j.format) {
		f.fail("output_format", "must be webp, png or jpeg")
	}
	if j.mark == "" {
		j.mark = defaultMarkText
	} else if len(j.mark) > maxMarkText {
		f.fail("watermark", fmt.Sprintf("must have at most %d bytes", maxMarkText))
	}
	return j
}
