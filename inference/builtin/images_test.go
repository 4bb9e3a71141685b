package builtin_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"windlass/inference/builtin"
	"windlass/inference/builtin/picture"
	"windlass/inference/runtimetest"
)

// photo is a PNG of the given size.
func photo(t testing.TB, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(x), uint8(y), 90, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dataURI(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}

type imagesOutput struct {
	Images []struct {
		Source, File, Format, Size string
		Width, Height              int
		SizeBytes                  int64
		Operations                 []string
	}
	ImagesProcessed, TotalImages int
	Failed                       []struct{ Source, Reason string }
	Ignored                      []string
}

// imagesJob runs one job and returns what it said and where its files are.
func (c *child) imagesJob(input string) ([]said, string) {
	c.t.Helper()
	dir := c.t.TempDir()
	c.send(map[string]any{"type": "job", "id": "j", "input": json.RawMessage(input), "workdir": dir, "outputDir": dir})
	var all []said
	for {
		m := c.next()
		if all = append(all, m); m.Type == "result" || m.Type == "error" {
			return all, dir
		}
	}
}

// TestSecondExampleOfTheSeed is seed S0's batch of images, from a server and as data.
func TestSecondExampleOfTheSeed(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.FS(os.DirFS(writeFiles(t, map[string][]byte{"image1.png": photo(t, 300, 200), "image2.png": photo(t, 2000, 1000)})))))
	defer server.Close()
	c := startChild(t, "--handler", builtin.HandlerImages, "--fetch-allow", "127.0.0.0/8")
	c.ready()
	input := fmt.Sprintf(`{"images": [%q, %q, %q], "operations": ["resize", "enhance", "watermark"], "output_format": "webp", "dpi": 300}`,
		server.URL+"/image1.png", server.URL+"/image2.png", dataURI(photo(t, 64, 64)))
	said, dir := c.imagesJob(input)
	last := said[len(said)-1]
	var out imagesOutput
	if err := json.Unmarshal(last.Output, &out); err != nil || out.ImagesProcessed != 3 || out.TotalImages != 3 || len(out.Images) != 3 {
		t.Fatalf("%+v %s", last, last.Output)
	}
	if len(out.Ignored) != 1 || out.Ignored[0] != "dpi" {
		t.Errorf("ignored: %v", out.Ignored)
	}
	for i, want := range [][2]int{{300, 200}, {1024, 512}, {64, 64}} {
		one := out.Images[i]
		data, err := os.ReadFile(filepath.Join(dir, one.File))
		if err != nil || int64(len(data)) != one.SizeBytes {
			t.Fatalf("%+v: %d bytes, %v", one, len(data), err)
		}
		img, format, err := picture.Decode(data)
		if err != nil || format != picture.WebP || img.Bounds().Dx() != want[0] || img.Bounds().Dy() != want[1] || one.Width != want[0] {
			t.Errorf("%+v: %s %v %v", one, format, img.Bounds(), err)
		}
	}
	var done []float64
	for _, m := range said {
		if m.Type == "progress" {
			if m.Metadata["totalImages"] != 3 || m.Step != "processing_images" {
				t.Errorf("%+v", m)
			}
			done = append(done, m.Metadata["imagesProcessed"])
		}
	}
	if len(done) != 4 || done[0] != 0 || done[3] != 3 {
		t.Errorf("progress: %v", done)
	}
}

// TestImagesThatFail: the others are the partial results, and it says which and why.
func TestImagesThatFail(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/redirect":
			http.Redirect(w, r, "/gone", http.StatusFound)
		default:
			_, _ = w.Write([]byte("<html>"))
		}
	}))
	defer server.Close()
	c := startChild(t, "--handler", builtin.HandlerImages, "--fetch-allow", "127.0.0.0/8")
	c.ready()
	run := func(sources ...string) said {
		list, _ := json.Marshal(sources)
		all, _ := c.imagesJob(`{"images": ` + string(list) + `}`)
		return all[len(all)-1]
	}
	m := run(dataURI(photo(t, 8, 8)), server.URL+"/gone", server.URL+"/page", server.URL+"/redirect", "data:text/plain;base64,aa")
	var partial imagesOutput
	if err := json.Unmarshal(m.Partial, &partial); err != nil || m.Type != "error" || partial.ImagesProcessed != 1 || len(partial.Failed) != 4 {
		t.Fatalf("%+v %s", m, m.Partial)
	}
	if m.Code != "IMAGES_FAILED" || m.Retryable || !strings.Contains(partial.Failed[0].Reason, "404") {
		t.Errorf("%+v %s", m, m.Partial)
	}
	if m := run(server.URL + "/busy"); !m.Retryable {
		t.Errorf("a server that is busy is final: %+v", m)
	}
}

// TestImagesReadNothingInside: the rule of webhooks holds for what a job names.
func TestImagesReadNothingInside(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	c := startChild(t, "--handler", builtin.HandlerImages)
	c.ready()
	for _, source := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254/latest", "file:///etc/passwd", "http://[::1]:1/", "http://u:p@example.com/"} {
		all, dir := c.imagesJob(fmt.Sprintf(`{"images": [%q]}`, source))
		m := all[len(all)-1]
		if m.Code != "IMAGES_FAILED" || strings.Contains(string(m.Partial), "127.0.0.1 may") {
			t.Errorf("%s: %+v", source, m)
		}
		if files, _ := os.ReadDir(dir); len(files) > 0 {
			t.Errorf("%s: %v", source, files)
		}
	}
}

func TestImagesRefuseBadInput(t *testing.T) {
	c := startChild(t, "--handler", builtin.HandlerImages)
	c.ready()
	for field, input := range map[string]string{
		"images": `{}`, "operations": `{"images": ["data:"], "operations": ["rotate"]}`, "output_format": `{"images": ["data:"], "output_format": "bmp"}`,
		"width": `{"images": ["data:"], "width": 0}`, "quality": `{"images": ["data:"], "quality": 101}`, "watermark": `{"images": ["data:"], "watermark": "` + strings.Repeat("x", 101) + `"}`,
	} {
		all, _ := c.imagesJob(input)
		if m := all[len(all)-1]; m.Code != "INVALID_INPUT" || m.Details["field"] != field {
			t.Errorf("%s: %+v", field, m)
		}
	}
}

func TestConformanceImages(t *testing.T) {
	small := dataURI(photo(t, 16, 16))
	list := func(n int) json.RawMessage {
		b, _ := json.Marshal(map[string]any{"images": slicesOf(dataURI(photo(t, 1200, 900)), n), "output_format": "webp"})
		return b
	}
	conform(t, builtin.HandlerImages, runtimetest.Config{
		Quick:    json.RawMessage(`{"images": ["` + small + `"]}`),
		Long:     list(100),
		Progress: list(2),
		Slots:    2,
	})
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func writeFiles(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
