package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
)

// JPEG markers and the EXIF tag of the orientation (CIPA DC-008, 4.6.4).
const (
	markerAPP1     = 0xe1
	markerScan     = 0xda
	tagOrientation = 0x0112
	entrySize      = 12
)

// orientation returns how a camera was held, 1 to 8; 1 when the file does not say.
func orientation(jpeg []byte) int {
	at := 2 // after the start of image
	for at+4 <= len(jpeg) && jpeg[at] == 0xff && jpeg[at+1] != markerScan {
		size := int(binary.BigEndian.Uint16(jpeg[at+2:]))
		end := at + 2 + size
		if size < 2 || end > len(jpeg) {
			break
		}
		if body, ok := bytes.CutPrefix(jpeg[at+4:end], []byte("Exif\x00\x00")); ok && jpeg[at+1] == markerAPP1 {
			return orientationOf(body)
		}
		at = end
	}
	return 1
}

// orientationOf reads the first directory of a TIFF header.
func orientationOf(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	entries := int64(order.Uint16(tiff[at:]))
	for i := range entries {
		entry := at + 2 + i*entrySize
		if entry+entrySize > int64(len(tiff)) {
			break
		}
		if order.Uint16(tiff[entry:]) == tagOrientation {
			if v := int(order.Uint16(tiff[entry+8:])); v >= 1 && v <= 8 {
				return v
			}
			break
		}
	}
	return 1
}

// turned shows an image as one of the eight orientations without copying it.
type turned struct {
	image.Image
	how int
}

// upright returns the image as it was seen.
func upright(img image.Image, how int) image.Image {
	if how == 1 {
		return img
	}
	return turned{img, how}
}

// Bounds implements image.Image.
func (t turned) Bounds() image.Rectangle {
	b := t.Image.Bounds()
	if t.how >= 5 {
		return image.Rect(0, 0, b.Dy(), b.Dx())
	}
	return image.Rect(0, 0, b.Dx(), b.Dy())
}

// At implements image.Image.
func (t turned) At(x, y int) color.Color {
	b := t.Image.Bounds()
	right, bottom := b.Dx()-1, b.Dy()-1
	switch t.how {
	case 2:
		x = right - x
	case 3:
		x, y = right-x, bottom-y
	case 4:
		y = bottom - y
	case 5:
		x, y = y, x
	case 6:
		x, y = y, bottom-x
	case 7:
		x, y = right-y, bottom-x
	case 8:
		x, y = right-y, x
	}
	return t.Image.At(b.Min.X+x, b.Min.Y+y)
}
