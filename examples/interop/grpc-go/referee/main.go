// gRPC for Go as the referee of our policies: its authorization engine (google.golang.org/grpc/authz) decides every case
// that ours does, in a server, about certificates that are made for it. Prints what they differ in.
//
// usage: referee POLICY CASES VECTORS      countersign is in the PATH
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/authz"
	_ "google.golang.org/grpc/authz/audit/stdout"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A Case is one of `countersign policy test`; a vector has its policy beside it.
type Case struct {
	Name       string              `json:"name"`
	Peer       Peer                `json:"peer"`
	Method     string              `json:"method"`
	Metadata   map[string][]string `json:"metadata,omitempty"`
	Expect     string              `json:"expect,omitempty"`
	Policy     json.RawMessage     `json:"policy,omitempty"`
	PolicyText *string             `json:"policy_text,omitempty"`
}

// A Peer is authenticated by a certificate unless it says otherwise.
type Peer struct {
	TLS           *bool    `json:"tls,omitempty"`
	Authenticated *bool    `json:"authenticated,omitempty"`
	URISANs       []string `json:"uri_sans,omitempty"`
	DNSSANs       []string `json:"dns_sans,omitempty"`
	Subject       string   `json:"subject,omitempty"`
}

func main() {
	policy, err := os.ReadFile(os.Args[1])
	check(err)
	var ours struct{ Cases []Case }
	read(os.Args[2], &ours)
	var vectors []Case
	read(os.Args[3], &vectors)

	differ := 0
	compare := func(c Case, policy string) {
		if here, there := countersign(c, policy), grpcGo(c, policy); here != there {
			differ++
			fmt.Printf("differs: %s: ours %s, grpc-go %s\n", c.Name, here, there)
		}
	}
	for _, c := range ours.Cases {
		compare(c, string(policy))
	}
	fmt.Printf("policy: %d cases, %d differ\n", len(ours.Cases), differ)
	differ = 0
	for _, vector := range vectors {
		policy := string(vector.Policy)
		if vector.PolicyText != nil {
			policy = *vector.PolicyText
		}
		compare(vector, policy)
	}
	fmt.Printf("vectors: %d cases, %d differ\n", len(vectors), differ)
}

// countersign asks our tool: allow, deny, or invalid.
func countersign(c Case, policy string) string {
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	policyFile, casesFile := filepath.Join(dir, "policy.json"), filepath.Join(dir, "cases.json")
	check(os.WriteFile(policyFile, []byte(policy), 0o600))
	c.Policy, c.PolicyText, c.Expect = nil, nil, "allow"
	cases, err := json.Marshal(map[string][]Case{"cases": {c}})
	check(err)
	check(os.WriteFile(casesFile, cases, 0o600))
	command := exec.Command("countersign", "policy", "test", "--policy", policyFile, casesFile, "--output", "json")
	output, err := command.Output()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 64 && strings.Contains(string(exit.Stderr), "policy.json") {
		return "invalid"
	}
	var result struct{ Results []struct{ Decision string } }
	if json.Unmarshal(output, &result) != nil || len(result.Results) != 1 {
		panic(fmt.Sprintf("%s: %v: %s", c.Name, err, output))
	}
	return result.Results[0].Decision
}

// grpcGo asks a server of gRPC for Go with this policy: allow, deny, invalid, or the code that it answers with.
func grpcGo(c Case, policy string) string {
	engine, err := authz.NewStatic(policy)
	if err != nil {
		return "invalid"
	}
	authority := newAuthority()
	serverCredentials, clientCredentials := authority.credentials(c.Peer)
	server := grpc.NewServer(
		grpc.Creds(serverCredentials),
		grpc.UnaryInterceptor(engine.UnaryInterceptor),
		grpc.StreamInterceptor(engine.StreamInterceptor),
		// Every method is there, so that the policy alone decides.
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			return stream.SendMsg(&emptypb.Empty{})
		}),
	)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go server.Serve(listener)
	defer server.Stop()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(clientCredentials))
	check(err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), c.Metadata), 10*time.Second)
	defer cancel()
	err = connection.Invoke(ctx, c.Method, &emptypb.Empty{}, &emptypb.Empty{})
	switch status.Code(err) {
	case codes.OK:
		return "allow"
	case codes.PermissionDenied:
		return "deny"
	default:
		return status.Code(err).String()
	}
}

// An Authority makes the certificates of one case.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	roots       *x509.CertPool
}

func newAuthority() *Authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "referee"},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	certificate, err := x509.ParseCertificate(der)
	check(err)
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return &Authority{key, certificate, roots}
}

// credentials are those of the server and of the peer: without TLS, without a certificate, or with one of its names.
func (a *Authority) credentials(peer Peer) (server, client credentials.TransportCredentials) {
	if peer.TLS != nil && !*peer.TLS {
		return insecure.NewCredentials(), insecure.NewCredentials()
	}
	serverConfig := &tls.Config{
		Certificates: []tls.Certificate{a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})},
		ClientCAs:    a.roots,
		ClientAuth:   tls.VerifyClientCertIfGiven, // for the cases of a peer that has none
	}
	clientConfig := &tls.Config{RootCAs: a.roots}
	if peer.Authenticated == nil || *peer.Authenticated {
		template := &x509.Certificate{DNSNames: peer.DNSSANs, RawSubject: subject(peer.Subject)}
		for _, text := range peer.URISANs {
			uri, err := url.Parse(text)
			check(err)
			template.URIs = append(template.URIs, uri)
		}
		clientConfig.Certificates = []tls.Certificate{a.issue(template)}
	}
	return credentials.NewTLS(serverConfig), credentials.NewTLS(clientConfig)
}

func (a *Authority) issue(template *x509.Certificate) tls.Certificate {
	template.SerialNumber = big.NewInt(2)
	template.NotAfter = time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var attributes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "C": {2, 5, 4, 6}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11},
}

// subject encodes what RFC 4514 writes, which is the most specific part first.
func subject(text string) []byte {
	const comma = "\x00"
	sequence := pkix.RDNSequence{}
	for _, part := range strings.Split(strings.ReplaceAll(text, `\,`, comma), ",") {
		if kind, value, found := strings.Cut(part, "="); found {
			attribute := pkix.AttributeTypeAndValue{Type: attributes[kind], Value: strings.ReplaceAll(value, comma, ",")}
			sequence = append(pkix.RDNSequence{{attribute}}, sequence...)
		}
	}
	der, err := asn1.Marshal(sequence)
	check(err)
	return der
}

func read(file string, into any) {
	text, err := os.ReadFile(file)
	check(err)
	check(json.Unmarshal(text, into))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
