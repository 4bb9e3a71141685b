package consensus

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"windlass/coordinator/peer"
)

// Identity is who this node is in its cluster. It is made with the data
// directory and dies with it: an emptied directory is a new node that must
// join, because it no longer has what the old one promised (DESIGN 3.9).
type Identity struct {
	ServerID  string `json:"serverId"`
	ClusterID string `json:"clusterId,omitempty"` // empty until the node is in a cluster, or about to be

	// Former is the peer address of the server that forms ClusterID, when the
	// node came to it that way. It means something only until there is raft
	// state: nobody but the former can make this node a member before that.
	Former string `json:"former,omitempty"`
}

// self is what the node says of itself in a handshake.
func (id Identity) self() peer.Identity {
	return peer.Identity{Server: id.ServerID, Cluster: id.ClusterID}
}

const identityFile = "identity.json"

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// loadIdentity reads the identity of the directory, or makes it.
func loadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, identityFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := Identity{ServerID: newID("srv_")}
		return id, saveIdentity(dir, id)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("cannot read identity: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil || id.ServerID == "" {
		return Identity{}, &DamageError{Dir: dir, Err: errors.New(identityFile + " is damaged")}
	}
	return id, nil
}

// saveIdentity replaces the file whole: fsynced, renamed, directory fsynced.
func saveIdentity(dir string, id Identity) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("cannot encode identity: %w", err)
	}
	path := filepath.Join(dir, identityFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
