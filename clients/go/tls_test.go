package lepton

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lepton/lepton/clients/go/leptonv1"
)

func TestTLSTrustsTheAuthorityThatItWasGiven(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	defer lender.Close()
	server := credentials.NewServerTLSFromCert(&lender.TLS.Certificates[0])
	router := serveWith(t, []grpc.ServerOption{grpc.Creds(server)})
	count := func(options ...Option) error {
		client, _ := dial(t, router.address, append(options, WithoutRetries())...)
		_, err := client.CountTokens(context.Background(), &leptonv1.CountTokensRequest{})
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(lender.Certificate())
	if err := count(WithTLS(&tls.Config{RootCAs: trusted})); err != nil {
		t.Error(err)
	}
	if err := count(WithTLS(nil)); !IsUnavailable(err) {
		t.Errorf("trusted whom nobody vouches for: %v", err)
	}
	if err := count(); !IsUnavailable(err) {
		t.Errorf("plaintext: %v", err)
	}
}
