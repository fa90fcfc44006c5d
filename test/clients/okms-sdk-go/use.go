package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go"
	"github.com/ovh/okms-sdk-go/types"
)

func (s *session) encryption() {
	for _, size := range []types.KeySizes{types.N128, types.N192, types.N256} {
		s.step(fmt.Sprintf("encrypt and decrypt, AES-%d", size), func() error {
			key, err := s.client.GenerateSymmetricKey(s.ctx, s.okmsId, size, "encryption", types.HSM, "", cipherUsages)
			if err != nil {
				return err
			}
			return s.sealed(key.Id)
		})
	}
}

func (s *session) sealed(id uuid.UUID) error {
	for _, length := range []int{1, 16, 4096} {
		for _, keyContext := range []string{"", "a context, déjà vu"} {
			plain := make([]byte, length)
			rand.Read(plain)
			sealed, err := s.client.Encrypt(s.ctx, s.okmsId, id, keyContext, plain)
			if err != nil {
				return err
			}
			opened, err := s.client.Decrypt(s.ctx, s.okmsId, id, keyContext, sealed)
			if err != nil {
				return err
			}
			_, wrong := s.client.Decrypt(s.ctx, s.okmsId, id, keyContext+"!", sealed)
			if err := errors.Join(expect("plaintext", bytes.Equal(opened, plain), true), refused(wrong, 400, okms.CategoryArgument)); err != nil {
				return err
			}
		}
	}
	_, tooLong := s.client.Encrypt(s.ctx, s.okmsId, id, "", make([]byte, 4097))
	_, empty := s.client.Encrypt(s.ctx, s.okmsId, id, "", nil)
	return errors.Join(refused(tooLong, 400, okms.CategoryArgument), refused(empty, 400, okms.CategoryArgument))
}

func (s *session) dataKeys() {
	var provider *okms.DataKeyProvider
	s.step("a key for data keys", func() error {
		key, err := s.client.GenerateSymmetricKey(s.ctx, s.okmsId, types.N256, "data keys", types.HSM, "", wrapUsages)
		if err != nil {
			return err
		}
		provider = s.client.DataKeys(s.okmsId, key.Id)
		return nil
	})
	if provider == nil {
		return
	}
	for _, bits := range []int{64, 256, 4096} {
		s.step(fmt.Sprintf("a data key of %d bits", bits), func() error {
			plain, wrapped, err := provider.GenerateDataKey(s.ctx, "a data key", bits)
			if err != nil {
				return err
			}
			opened, err := provider.DecryptDataKey(s.ctx, wrapped)
			if err != nil {
				return err
			}
			return errors.Join(expect("length", len(plain), bits/8), expect("the same", bytes.Equal(plain, opened), true))
		})
	}
	s.step("EncryptGCM and DecryptGCM", func() error {
		sealed, wrapped, nonce, err := provider.EncryptGCM(s.ctx, "gcm", []byte("data"), []byte("aad"))
		if err != nil {
			return err
		}
		opened, err := provider.DecryptGCM(s.ctx, wrapped, sealed, nonce, []byte("aad"))
		if err != nil {
			return err
		}
		return expect("data", string(opened), "data")
	})
	s.step("EncryptStream and DecryptStream, 1 MB", func() error {
		var stream bytes.Buffer
		data := make([]byte, 1<<20)
		rand.Read(data)
		writer, err := provider.EncryptStream(s.ctx, &stream, []byte("aad"), okms.BlockSize32kB)
		if err != nil {
			return err
		}
		if _, err := writer.Write(data); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
		reader, err := provider.DecryptStream(s.ctx, &stream, []byte("aad"))
		if err != nil {
			return err
		}
		opened, err := io.ReadAll(reader)
		if err != nil {
			return err
		}
		return expect("the same", bytes.Equal(opened, data), true)
	})
}

func (s *session) signatures() {
	for _, size := range []types.KeySizes{types.N2048, types.N3072, types.N4096} {
		s.step(fmt.Sprintf("crypto.Signer and certificates, RSA-%d", size), func() error {
			key, err := s.client.GenerateRSAKeyPair(s.ctx, s.okmsId, size, "signatures", types.HSM, "", signatureUsages)
			if err != nil {
				return err
			}
			return s.signer(key.Id, []x509.SignatureAlgorithm{
				x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
				x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
			})
		})
	}
	for curve, algorithm := range map[types.Curves]x509.SignatureAlgorithm{
		types.P256: x509.ECDSAWithSHA256, types.P384: x509.ECDSAWithSHA384, types.P521: x509.ECDSAWithSHA512,
	} {
		s.step("crypto.Signer and certificates, "+string(curve), func() error {
			key, err := s.client.GenerateECKeyPair(s.ctx, s.okmsId, curve, "signatures", types.HSM, "", signatureUsages)
			if err != nil {
				return err
			}
			return s.signer(key.Id, []x509.SignatureAlgorithm{algorithm})
		})
	}
	s.step("sign and verify whole messages", func() error { return s.messages() })
}

// signer makes a certificate with each algorithm: Go checks the signature of each one it makes.
func (s *session) signer(id uuid.UUID, algorithms []x509.SignatureAlgorithm) error {
	signer, err := s.client.NewSigner(s.ctx, s.okmsId, id)
	if err != nil {
		return err
	}
	exported, err := s.client.ExportPublicKey(s.ctx, s.okmsId, id)
	if err != nil {
		return err
	}
	if public, ok := exported.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
		return errors.New("the exported public key is another one than the signer's")
	}
	for _, algorithm := range algorithms {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "made with a key in the HSM"}, SignatureAlgorithm: algorithm,
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
		if err != nil {
			return fmt.Errorf("%v: %w", algorithm, err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if err := certificate.CheckSignatureFrom(certificate); err != nil {
			return fmt.Errorf("%v: %w", algorithm, err)
		}
	}
	return nil
}

func (s *session) messages() error {
	key, err := s.client.GenerateECKeyPair(s.ctx, s.okmsId, types.P384, "messages", types.HSM, "", signatureUsages)
	if err != nil {
		return err
	}
	public, err := s.client.ExportPublicKey(s.ctx, s.okmsId, key.Id)
	if err != nil {
		return err
	}
	message := []byte("signed as a whole")
	signature, err := s.client.Sign(s.ctx, s.okmsId, key.Id, nil, types.ES384, false, message)
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return err
	}
	hash := crypto.SHA384.New()
	hash.Write(message)
	r, t := new(big.Int).SetBytes(raw[:48]), new(big.Int).SetBytes(raw[48:])
	good, err := s.client.Verify(s.ctx, s.okmsId, key.Id, types.ES384, false, message, signature)
	if err != nil {
		return err
	}
	bad, err := s.client.Verify(s.ctx, s.okmsId, key.Id, types.ES384, false, []byte("another"), signature)
	if err != nil {
		return err
	}
	_, unfit := s.client.Sign(s.ctx, s.okmsId, key.Id, nil, types.RS256, false, message)
	return errors.Join(
		expect("Go's verdict", ecdsa.Verify(public.(*ecdsa.PublicKey), hash.Sum(nil), r, t), true),
		expect("verify", good, true), expect("verify of another message", bad, false),
		refused(unfit, 400, okms.CategoryArgument),
	)
}
