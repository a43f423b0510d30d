// A client of the inventory over mutual TLS, in Go.
//
// usage: client HOST:PORT DIR get|watch      DIR has tls.crt, tls.key and ca.crt
package main

//go:generate go install tool
//go:generate protoc -I ../../../proto --go_out=. --go-grpc_out=. --go_opt=module=interop --go-grpc_opt=module=interop --go_opt=Minventory/v1/inventory.proto=interop/inventory/v1 --go-grpc_opt=Minventory/v1/inventory.proto=interop/inventory/v1 inventory/v1/inventory.proto

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "interop/inventory/v1"
)

func main() {
	address, dir, command := os.Args[1], os.Args[2], os.Args[3]
	config, err := mutualTLS(dir)
	if err != nil {
		fail(err)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		fail(err)
	}
	inventory := pb.NewInventoryServiceClient(connection)
	if command == "watch" {
		for {
			fmt.Println("ended:", explain(watch(inventory)))
			time.Sleep(time.Second)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := inventory.GetItem(ctx, &pb.GetItemRequest{Sku: "FAS-M6-20"})
	if err != nil {
		fail(errors.New(explain(err)))
	}
	fmt.Println(answer.Item.Name, answer.Item.Available)
}

// mutualTLS checks the server's certificate against ca.crt, and for the host name of the address. Its own certificate it
// reads for each connection, so that a new one is in use without a restart.
func mutualTLS(dir string) (*tls.Config, error) {
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s/ca.crt", dir)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
			if errors.Is(err, fs.ErrNotExist) {
				return &tls.Certificate{}, nil // none is sent, and the server decides
			}
			return &own, err
		},
	}, nil
}

func watch(inventory pb.InventoryServiceClient) error {
	levels, err := inventory.WatchStock(context.Background(), &pb.WatchStockRequest{Sku: "FAS-M6-20"})
	if err != nil {
		return err
	}
	for {
		level, err := levels.Recv()
		if err != nil {
			return err
		}
		fmt.Println(level.Item.Sku, level.Item.Available)
	}
}

// explain gives the code, and the reason: an identifier to decide on, where the text may change.
func explain(err error) string {
	answer := status.Convert(err)
	text := answer.Code().String()
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			text += " " + info.Reason
		}
	}
	return text + " " + answer.Message()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
