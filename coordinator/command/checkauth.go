package command

import (
	"cmp"
	"errors"
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
