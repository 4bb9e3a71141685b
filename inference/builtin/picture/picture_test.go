package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

// gradient is dark on the left, lighter on the right, with a red mark in its
// upper left corner.
func gradient(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			v := uint8(80 + 60*x/w)
			img.Set(x, y, color.RGBA{v, v, v, 255})
		}
	}
	for y := range h / 8 {
		for x := range w / 8 {
			img.Set(x, y, color.RGBA{200, 0, 0, 255})
		}
	}
	return img
}

func encoded(t testing.TB, img image.Image, format string) []byte {
	t.Helper()
	b, err := Encode(img, format, 95)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryFormatRoundTrips(t *testing.T) {
	src := gradient(64, 48)
	for _, format := range Formats() {
		got, name, err := Decode(encoded(t, src, format))
		if err != nil || name != format || got.Bounds() != src.Bounds() {
			t.Fatalf("%s: %s %v %v", format, name, got, err)
		}
		if r, g, _, _ := got.At(2, 2).RGBA(); r>>8 < 150 || g>>8 > 60 {
			t.Errorf("%s: the mark is %v", format, got.At(2, 2))
		}
		if !bytes.Equal(encoded(t, src, format), encoded(t, src, format)) {
			t.Errorf("%s: two encodings differ", format)
		}
	}
	var b bytes.Buffer
	if err := gif.Encode(&b, src, nil); err != nil {
		t.Fatal(err)
	}
	if _, name, err := Decode(b.Bytes()); err != nil || name != "gif" {
		t.Errorf("%s %v", name, err)
	}
}

func TestResizeKeepsProportionsAndNeverEnlarges(t *testing.T) {
	for _, c := range []struct{ w, h, toW, toH, wantW, wantH int }{
		{1600, 1200, 800, 800, 800, 600}, {1200, 1600, 800, 800, 600, 800}, {100, 50, 800, 800, 100, 50}, {1000, 1, 10, 10, 10, 1},
	} {
		if b := Resize(gradient(c.w, c.h), c.toW, c.toH).Bounds(); b.Dx() != c.wantW || b.Dy() != c.wantH {
			t.Errorf("%+v: %v", c, b)
		}
	}
}

func TestEnhanceUsesTheWholeRange(t *testing.T) {
	img := gradient(200, 200)
	Enhance(img)
	low, high := uint8(255), uint8(0)
	for i := 0; i < len(img.Pix); i += 4 {
		low, high = min(low, img.Pix[i+1]), max(high, img.Pix[i+1])
	}
	if low > 5 || high < 250 {
		t.Errorf("green is between %d and %d", low, high)
	}
	flat := image.NewRGBA(image.Rect(0, 0, 4, 4)) // transparent: nothing to stretch
	Enhance(flat)
	if !bytes.Equal(flat.Pix, make([]byte, 64)) {
		t.Error("a transparent image changed")
	}
}

func TestWatermarkIsInTheLowerRightCorner(t *testing.T) {
	img, before := gradient(400, 300), gradient(400, 300)
	if err := Watermark(img, "Windlass"); err != nil {
		t.Fatal(err)
	}
	changed := image.Rectangle{}
	for y := range 300 {
		for x := range 400 {
			if img.RGBAAt(x, y) != before.RGBAAt(x, y) {
				changed = changed.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	if changed.Empty() || changed.Min.X < 200 || changed.Min.Y < 250 {
		t.Errorf("the text covers %v", changed)
	}
	if err := Watermark(gradient(3, 3), "a text that is far too long for this image"); err != nil {
		t.Error(err)
	}
}

// withOrientation puts an EXIF header into a JPEG.
func withOrientation(jpg []byte, how uint16, order binary.AppendByteOrder) []byte {
	tiff := []byte("MM\x00*")
	if order == binary.AppendByteOrder(binary.LittleEndian) {
		tiff = []byte("II*\x00")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint16(tiff, tagOrientation)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, how)
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{0xff, 0xd8, 0xff, markerAPP1}, binary.BigEndian.AppendUint16(nil, uint16(len(body)+2))...)
	return append(append(out, body...), jpg[2:]...)
}

func TestPhotosAreTurnedUpright(t *testing.T) {
	jpg := encoded(t, gradient(64, 32), JPEG)
	marks := map[uint16][2]int{1: {2, 2}, 2: {61, 2}, 3: {61, 29}, 4: {2, 29}, 5: {2, 2}, 6: {29, 2}, 7: {29, 61}, 8: {2, 61}}
	for how, at := range marks {
		for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
			img, _, err := Decode(withOrientation(jpg, how, order))
			if err != nil {
				t.Fatal(err)
			}
			if want := how >= 5; (img.Bounds().Dx() == 32) != want {
				t.Errorf("orientation %d: %v", how, img.Bounds())
			}
			if r, g, _, _ := img.At(at[0], at[1]).RGBA(); r>>8 < 140 || g>>8 > 80 {
				t.Errorf("orientation %d: no mark at %v but %v", how, at, img.At(at[0], at[1]))
			}
		}
	}
}

func TestBombsAreRefusedByTheirHeader(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, gradient(8, 8)); err != nil {
		t.Fatal(err)
	}
	bomb := b.Bytes()
	binary.BigEndian.PutUint32(bomb[16:], 100_000)
	binary.BigEndian.PutUint32(bomb[20:], 100_000)
	// The checksum of the header is what a decoder would stop at; ours is first.
	binary.BigEndian.PutUint32(bomb[29:], crcOf(bomb[12:29]))
	if _, _, err := Decode(bomb); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	for _, bad := range [][]byte{nil, []byte("<html>"), encoded(t, gradient(8, 8), JPEG)[:40]} {
		if _, _, err := Decode(bad); err == nil {
			t.Errorf("%q was taken for an image", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, gradient(8, 8), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(withOrientation(b.Bytes(), 6, binary.BigEndian))
	f.Add([]byte{0xff, 0xd8, 0xff, 0xe1, 0, 8, 'E', 'x', 'i', 'f', 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if how := orientation(data); how < 1 || how > 8 {
			t.Fatalf("orientation %d", how)
		}
		if len(data) < 1<<16 {
			_, _, _ = Decode(data)
		}
	})
}
