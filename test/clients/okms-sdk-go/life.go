package main

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go"
	"github.com/ovh/okms-sdk-go/types"
)

var (
	cipherUsages    = []types.CryptographicUsages{types.Encrypt, types.Decrypt}
	wrapUsages      = []types.CryptographicUsages{types.WrapKey, types.UnwrapKey}
	signatureUsages = []types.CryptographicUsages{types.Sign, types.Verify}
)

func (s *session) life() {
	var key *types.GetServiceKeyResponse
	s.step("a key with a chosen id and a context", func() (err error) {
		id := uuid.New()
		key, err = s.client.GenerateSymmetricKey(s.ctx, s.okmsId, types.N256, "life", types.HSM, "life", cipherUsages, okms.WithKeyID(id), okms.WithExtractable(false))
		if err != nil {
			return err
		}
		_, again := s.client.GenerateSymmetricKey(s.ctx, s.okmsId, types.N256, "life", types.HSM, "", cipherUsages, okms.WithKeyID(id))
		return errors.Join(
			expect("id", key.Id, id),
			expect("state", (*key.Attributes)["state"], any("active")),
			expect("size", *key.Size, types.N256),
			refused(again, 409, okms.CategoryConflict),
		)
	})
	if key == nil {
		return
	}
	s.step("get and rename", func() error {
		name := "renamed"
		renamed, err := s.client.UpdateServiceKey(s.ctx, s.okmsId, key.Id, types.PatchServiceKeyRequest{Name: &name})
		if err != nil {
			return err
		}
		got, err := s.client.GetServiceKey(s.ctx, s.okmsId, key.Id, nil)
		if err != nil {
			return err
		}
		return errors.Join(expect("name", renamed.Name, name), expect("name", got.Name, name))
	})
	s.step("create with format=jwk, as the sigstore plugin does", func() error {
		format, kind, size := types.Jwk, types.RSA, types.N2048
		made, err := s.client.CreateImportServiceKey(s.ctx, s.okmsId, &format, types.CreateImportServiceKeyRequest{
			Name: "jwk", Type: &kind, Size: &size, Operations: &signatureUsages,
		})
		if err != nil {
			return err
		}
		public, err := (*made.Keys)[0].PublicKey()
		if err != nil {
			return err
		}
		exported, err := s.client.ExportPublicKey(s.ctx, s.okmsId, made.Id)
		if err != nil {
			return err
		}
		return expect("public keys agree", public.(*rsa.PublicKey).Equal(exported), true)
	})
	s.step("paged listing finds each key once", func() error { return s.listing() })
	s.step("an active key cannot be deleted", func() error {
		return refused(s.client.DeleteServiceKey(s.ctx, s.okmsId, key.Id), 400, okms.CategoryArgument)
	})
	for _, reason := range []types.RevocationReasons{
		types.Unspecified, types.KeyCompromise, types.CaCompromise, types.AffiliationChanged, types.Superseded,
		types.CessationOfOperation, types.PrivilegeWithdrawn,
	} {
		s.step("deactivate with "+string(reason)+", and activate", func() error { return s.turn(key.Id, reason) })
	}
	s.step("deactivate, delete, gone; listed as destroyed", func() error { return s.end(key.Id) })
}

func (s *session) listing() error {
	made := map[uuid.UUID]int{}
	for range 12 {
		key, err := s.client.GenerateECKeyPair(s.ctx, s.okmsId, types.P256, "listed", types.HSM, "", signatureUsages)
		if err != nil {
			return err
		}
		made[key.Id] = 0
	}
	pageSize := uint32(10)
	for key, err := range s.client.ListAllServiceKeys(s.okmsId, &pageSize, nil).Iter(s.ctx) {
		if err != nil {
			return err
		}
		if _, ours := made[key.Id]; ours {
			made[key.Id]++
		}
	}
	for id, times := range made {
		if times != 1 {
			return fmt.Errorf("%v was listed %d times", id, times)
		}
		if err := s.end(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) turn(id uuid.UUID, reason types.RevocationReasons) error {
	if err := s.client.DeactivateServiceKey(s.ctx, s.okmsId, id, reason); err != nil {
		return err
	}
	wanted := "deactivated"
	if reason == types.KeyCompromise || reason == types.CaCompromise {
		wanted = "compromised"
	}
	key, err := s.client.GetServiceKey(s.ctx, s.okmsId, id, nil)
	if err != nil {
		return err
	}
	_, use := s.client.Encrypt(s.ctx, s.okmsId, id, "", []byte("unused"))
	if err := errors.Join(expect("state", (*key.Attributes)["state"], any(wanted)), refused(use, 400, okms.CategoryArgument)); err != nil {
		return err
	}
	if err := s.client.ActivateServiceKey(s.ctx, s.okmsId, id); err != nil {
		return err
	}
	_, err = s.client.Encrypt(s.ctx, s.okmsId, id, "", []byte("used"))
	return err
}

func (s *session) end(id uuid.UUID) error {
	if err := s.client.DeactivateServiceKey(s.ctx, s.okmsId, id, types.Superseded); err != nil {
		return err
	}
	if err := s.client.DeleteServiceKey(s.ctx, s.okmsId, id); err != nil {
		return err
	}
	_, gone := s.client.GetServiceKey(s.ctx, s.okmsId, id, nil)
	if err := refused(gone, 404, okms.CategoryNotFound); err != nil {
		return err
	}
	state := types.KeyStatesDestroyed
	found := []uuid.UUID{}
	for key, err := range s.client.ListAllServiceKeys(s.okmsId, nil, &state).Iter(s.ctx) {
		if err != nil {
			return err
		}
		found = append(found, key.Id)
	}
	return expect("listed as destroyed", slices.Contains(found, id), true)
}
