package main

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go/types"
)

func (s *session) imports() {
	for _, length := range []int{16, 24, 32} {
		for zeros := range 3 {
			s.step(fmt.Sprintf("import of %d bytes, %d of them leading zeros, which the SDK drops", length, zeros), func() error {
				secret := make([]byte, length)
				rand.Read(secret[zeros:])
				secret[zeros] |= 1
				return s.importedSecret(secret)
			})
		}
	}
	for curve, algorithm := range map[elliptic.Curve]x509.SignatureAlgorithm{
		elliptic.P256(): x509.ECDSAWithSHA256, elliptic.P384(): x509.ECDSAWithSHA384, elliptic.P521(): x509.ECDSAWithSHA512,
	} {
		s.step("import of "+curve.Params().Name, func() error {
			private, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				return err
			}
			return s.imported(private, func(id uuid.UUID) error { return s.signer(id, []x509.SignatureAlgorithm{algorithm}) })
		})
	}
	for _, bits := range []int{2048, 3072, 4096} {
		s.step(fmt.Sprintf("import of RSA-%d", bits), func() error {
			private, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				return err
			}
			return s.imported(private, func(id uuid.UUID) error {
				return s.signer(id, []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA512WithRSAPSS})
			})
		})
	}
	s.step("import of PKCS#8, PKCS#1 and SEC1 files", func() error { return s.files() })
	s.step("import of public halves, to verify with", func() error { return s.publicHalves() })
}

// importedSecret opens a ciphertext of the server with the secret itself: RFC 7516, direct encryption.
func (s *session) importedSecret(secret []byte) error {
	key, err := s.client.ImportKey(s.ctx, s.okmsId, secret, "imported", "", cipherUsages)
	if err != nil {
		return err
	}
	sealed, err := s.client.Encrypt(s.ctx, s.okmsId, key.Id, "", []byte("opened outside"))
	if err != nil {
		return err
	}
	parts := strings.Split(sealed, ".")
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return err
		}
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	opened, err := gcm.Open(nil, decoded[2], append(decoded[3], decoded[4]...), []byte(parts[0]))
	if err != nil {
		return err
	}
	return expect("plaintext", string(opened), "opened outside")
}

func (s *session) files() error {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rsa8, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		return err
	}
	ec8, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		return err
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		return err
	}
	for _, block := range []pem.Block{
		{Type: "PRIVATE KEY", Bytes: rsa8}, {Type: "PRIVATE KEY", Bytes: ec8}, {Type: "EC PRIVATE KEY", Bytes: sec1},
		{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)},
	} {
		key, err := s.client.ImportKeyPairPEM(s.ctx, s.okmsId, pem.EncodeToMemory(&block), "from a file", "", signatureUsages)
		if err != nil {
			return fmt.Errorf("%s: %w", block.Type, err)
		}
		exported, err := s.client.ExportPublicKey(s.ctx, s.okmsId, key.Id)
		if err != nil {
			return err
		}
		wanted, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
		if key.Type == types.EC {
			wanted, err = x509.MarshalPKIXPublicKey(ecKey.Public())
		}
		if err != nil {
			return err
		}
		got, err := x509.MarshalPKIXPublicKey(exported)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, wanted) {
			return errors.New("another public key")
		}
	}
	return nil
}

func (s *session) publicHalves() error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := s.client.ImportKey(s.ctx, s.okmsId, private.Public(), "public", "", []types.CryptographicUsages{types.Verify})
	if err != nil {
		return err
	}
	digest := make([]byte, 32)
	rand.Read(digest)
	r, t, err := ecdsa.Sign(rand.Reader, private, digest)
	if err != nil {
		return err
	}
	raw := append(r.FillBytes(make([]byte, 32)), t.FillBytes(make([]byte, 32))...)
	good, err := s.client.Verify(s.ctx, s.okmsId, key.Id, types.ES256, true, digest, base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		return err
	}
	return errors.Join(expect("class", *key.Class, types.PUBLICKEY), expect("verify", good, true))
}

// pair is what a key of the standard library and its public half have in common.
type pair interface{ Public() crypto.PublicKey }

func (s *session) imported(private pair, check func(id uuid.UUID) error) error {
	key, err := s.client.ImportKey(s.ctx, s.okmsId, private, "imported", "", signatureUsages)
	if err != nil {
		return err
	}
	exported, err := s.client.ExportPublicKey(s.ctx, s.okmsId, key.Id)
	if err != nil {
		return err
	}
	if public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(exported) {
		return errors.New("the exported public key is not the imported one")
	}
	return check(key.Id)
}
