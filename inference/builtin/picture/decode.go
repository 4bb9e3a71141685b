// Package picture decodes, changes and encodes one image. See DESIGN.md.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // decoder
	_ "image/jpeg" // decoder
	_ "image/png"  // decoder

	_ "golang.org/x/image/webp" // decoder
)

// MaxPixels bounds a decoded image: 200 MiB at four bytes a pixel.
const MaxPixels = 50 << 20

// ErrTooLarge says that an image has more than MaxPixels.
var ErrTooLarge = errors.New("the image has too many pixels")

// Decode reads a JPEG, PNG, GIF or WebP image and turns it upright. Errors wrap
// ErrTooLarge, or say that the bytes are no image.
func Decode(data []byte) (image.Image, string, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read image: %w; send JPEG, PNG, GIF or WebP", err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > MaxPixels/config.Height {
		return nil, format, fmt.Errorf("cannot read image of %d x %d: %w", config.Width, config.Height, ErrTooLarge)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, format, fmt.Errorf("cannot read image: %w", err)
	}
	if format == "jpeg" {
		img = upright(img, orientation(data))
	}
	return img, format, nil
}
