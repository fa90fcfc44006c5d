// Drives a running server with OVHcloud's own Go SDK, on both base paths; what comes back is checked with Go's standard
// library. One line per step, exit code 1 if a step failed.
//
// Usage: okms-sdk-go ADMIN.JSON
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go"
)

// admin is clients/admin.json.
type admin struct{ OkmsId, Endpoint, Ca, Cert, Key string }

type session struct {
	ctx    context.Context
	client *okms.Client
	okmsId uuid.UUID
	failed int
}

// step runs one step and says how it went; the ones after a failure still run.
func (s *session) step(name string, run func() error) {
	if err := guarded(run); err != nil {
		s.failed++
		fmt.Printf("FAILED  %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok      %s\n", name)
}

// The SDK dereferences nil when an answer has another status than the documented one.
func guarded(run func() error) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("the client panicked: %v", panicked)
		}
	}()
	return run()
}

// legacyBase sends to /v1 what the newer client sends to /api/{okmsId}/v1.
type legacyBase struct{ next http.RoundTripper }

func (base legacyBase) RoundTrip(request *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(request.URL.Path, "/api/") {
		return nil, fmt.Errorf("unexpected path %s", request.URL.Path)
	}
	moved := request.Clone(request.Context())
	moved.URL.Path = "/" + strings.SplitN(request.URL.Path, "/", 4)[3]
	return base.next.RoundTrip(moved)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: okms-sdk-go ADMIN.JSON")
		os.Exit(2)
	}
	facts, tlsConfig, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "okms-sdk-go:", err)
		os.Exit(2)
	}
	failed := 0
	for _, base := range []struct {
		name       string
		middleware func(http.RoundTripper) http.RoundTripper
	}{
		{"/api/{okmsId}/v1", nil},
		{"/v1", func(next http.RoundTripper) http.RoundTripper { return legacyBase{next} }},
	} {
		fmt.Println("--      under", base.name)
		client, err := okms.NewRestAPIClient(facts.Endpoint, okms.ClientConfig{TlsCfg: tlsConfig, Middleware: base.middleware})
		if err != nil {
			fmt.Fprintln(os.Stderr, "okms-sdk-go:", err)
			os.Exit(2)
		}
		s := &session{ctx: context.Background(), client: client, okmsId: uuid.MustParse(facts.OkmsId)}
		s.life()
		s.encryption()
		s.dataKeys()
		s.signatures()
		s.imports()
		failed += s.failed
	}
	if failed > 0 {
		fmt.Printf("%d steps failed\n", failed)
		os.Exit(1)
	}
	fmt.Println("every step passed")
}

func read(path string) (facts admin, config *tls.Config, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if err = json.Unmarshal(text, &facts); err != nil {
		return
	}
	ca, err := os.ReadFile(facts.Ca)
	if err != nil {
		return
	}
	pair, err := tls.LoadX509KeyPair(facts.Cert, facts.Key)
	if err != nil {
		return
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		err = errors.New("no certificate in " + facts.Ca)
	}
	config = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return
}

// refused is nil if err is the answer with this status and category.
func refused(err error, status int, category okms.Category) error {
	if err == nil {
		return errors.New("expected a refusal")
	}
	if got := okms.ErrStatusCode(err); got != status {
		return fmt.Errorf("expected status %d, got %d: %w", status, got, err)
	}
	kmsError := okms.AsKmsError(err)
	if kmsError == nil {
		return fmt.Errorf("not an error of the KMS: %w", err)
	}
	if got := kmsError.ErrorCode.Category(); got != category {
		return fmt.Errorf("expected category %v, got %v: %w", category, got, err)
	}
	return nil
}

func expect[T comparable](what string, got, wanted T) error {
	if got != wanted {
		return fmt.Errorf("%s: expected %v, got %v", what, wanted, got)
	}
	return nil
}
