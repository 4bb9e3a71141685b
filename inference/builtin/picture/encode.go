package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"

	"github.com/HugoSmits86/nativewebp"
)

// The formats that Encode writes.
const (
	JPEG = "jpeg"
	PNG  = "png"
	WebP = "webp" // lossless
)

// Formats returns the formats that Encode writes.
func Formats() []string { return []string{JPEG, PNG, WebP} }

// Encode writes an image. Quality, 1 to 100, is for JPEG.
func Encode(img image.Image, format string, quality int) ([]byte, error) {
	var out bytes.Buffer
	var err error
	switch format {
	case JPEG:
		err = jpeg.Encode(&out, img, &jpeg.Options{Quality: quality})
	case PNG:
		err = png.Encode(&out, img)
	case WebP:
		err = nativewebp.Encode(&out, img, nil)
	default:
		err = fmt.Errorf("format %q is unknown", format)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write image: %w", err)
	}
	return out.Bytes(), nil
}
