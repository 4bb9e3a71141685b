package picture

import "hash/crc32"

// crcOf is the checksum of a PNG chunk.
func crcOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }
