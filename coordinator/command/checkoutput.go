package command

import (
	"fmt"

	"windlass/protocol"
)

func checkFiles(files []*File) error {
	if len(files) > protocol.MaxOutputFiles {
		return fmt.Errorf("there are %d files, the limit is %d", len(files), protocol.MaxOutputFiles)
	}
	for _, f := range files {
		if err := protocol.CheckOutputName(f.GetName()); err != nil {
			return fmt.Errorf("a file's name is invalid: %w", err)
		}
		if len(f.GetSha256()) != hashSize || f.GetSize() < 0 {
			return fmt.Errorf("a file needs a hash of %d bytes and a size", hashSize)
		}
	}
	return nil
}

func checkPutClusterSecret(p *PutClusterSecret) error {
	if len(p.GetSecret()) != hashSize || [hashSize]byte(p.GetSecret()) == ([hashSize]byte{}) {
		return fmt.Errorf("a secret must be %d bytes, and not all zero", hashSize)
	}
	return nil
}
