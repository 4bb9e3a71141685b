package command

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

func checkPutOrg(p *PutOrg) error {
	if p.GetWeight() == 0 {
		return errors.New("weight must not be zero")
	}
	if p.GetStorageQuota() < 0 {
		return errors.New("storage_quota must not be negative")
	}
	return cmp.Or(checkNames("organisation", p.GetId()), checkText(p.GetName()))
}

func checkCreateKey(k *CreateKey) error {
	if k.GetExpiresMs() < 0 {
		return errors.New("expires_ms must not be negative")
	}
	return cmp.Or(checkIDs("key", k.GetId()), checkNames("organisation", k.GetOrg()), checkText(k.GetName()),
		checkSorted("permissions", k.GetPermissions()), checkSorted("endpoints", k.GetEndpoints()), checkHashes(k.GetHash()))
}

func checkRotateKey(r *RotateKey) error {
	if r.GetOverlapMs() < 0 {
		return errors.New("overlap_ms must not be negative")
	}
	return cmp.Or(checkIDs("key", r.GetId()), checkNames("organisation", r.GetOrg()), checkHashes(r.GetHash(), r.GetExpectHash()))
}

// checkSorted refuses a list that has another order than the one of its kind.
func checkSorted(what string, list []string) error {
	for i, s := range list {
		if i > 0 && list[i-1] >= s {
			return fmt.Errorf("%s must be sorted, each once", what)
		}
	}
	if slices.Contains(list, "") {
		return fmt.Errorf("%s must not be empty", what)
	}
	return checkText(list...)
}

func checkHashes(list ...[]byte) error {
	for _, h := range list {
		if len(h) != hashSize {
			return fmt.Errorf("a hash must be %d bytes", hashSize)
		}
	}
	return nil
}
