package picture

import (
	"fmt"
	"image"
	"image/color"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Resize scales an image into width x height and keeps its proportions; a
// smaller one keeps its size.
func Resize(img image.Image, width, height int) *image.RGBA {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w > width {
		w, h = width, max(h*width/w, 1)
	}
	if h > height {
		w, h = max(w*height/h, 1), height
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if w == b.Dx() && h == b.Dy() {
		draw.Copy(out, image.Point{}, img, b, draw.Src, nil)
		return out
	}
	draw.CatmullRom.Scale(out, out.Bounds(), img, b, draw.Src, nil)
	return out
}

// enhanceCut is the share of the darkest and of the brightest pixels that an
// enhanced image may lose, in percent.
const enhanceCut = 1

// Enhance stretches the contrast in place.
func Enhance(img *image.RGBA) {
	var histogram [256]int
	for i := 0; i+3 < len(img.Pix); i += 4 {
		histogram[luminance(img.Pix[i:])]++
	}
	cut := len(img.Pix) / 4 * enhanceCut / 100
	low, high := 0, 255
	for n := 0; low < high; low++ {
		if n += histogram[low]; n > cut {
			break
		}
	}
	for n := 0; high > low; high-- {
		if n += histogram[high]; n > cut {
			break
		}
	}
	if high <= low {
		return // one tone: nothing to stretch
	}
	var table [256]uint8
	for v := range table {
		table[v] = uint8(min(max((v-low)*255/(high-low), 0), 255))
	}
	for i := 0; i+3 < len(img.Pix); i += 4 {
		p := img.Pix[i : i+4]
		for c := range 3 { // a colour never exceeds its alpha: the pixels are premultiplied
			p[c] = min(table[p[c]], p[3])
		}
	}
}

func luminance(p []uint8) uint8 {
	return uint8((299*int(p[0]) + 587*int(p[1]) + 114*int(p[2])) / 1000)
}

// Bounds of a watermark's letters, in pixels: a thirtieth of the width between them.
const (
	markShare = 30
	minMark   = 10
	maxMark   = 96
)

// Watermark writes a text into the lower right corner in place; text that does not
// fit is cut by the edge.
func Watermark(img *image.RGBA, text string) error {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return fmt.Errorf("cannot read font: %w", err)
	}
	b := img.Bounds()
	size := min(max(b.Dx()/markShare, minMark), maxMark)
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: float64(size), DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return fmt.Errorf("cannot scale font: %w", err)
	}
	defer face.Close()
	width := font.MeasureString(face, text).Ceil()
	x, y := max(b.Max.X-width-size/2, b.Min.X+1), b.Max.Y-size/2
	shadow, light := color.NRGBA{A: 160}, color.NRGBA{R: 255, G: 255, B: 255, A: 200}
	for _, pass := range []struct {
		ink    color.NRGBA
		offset int
	}{{shadow, max(size/16, 1)}, {light, 0}} {
		d := font.Drawer{Dst: img, Src: image.NewUniform(pass.ink), Face: face, Dot: fixed.P(x+pass.offset, y+pass.offset)}
		d.DrawString(text)
	}
	return nil
}
