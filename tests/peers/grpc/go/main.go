// A gRPC server of grpc-go with its own health service, for tests of mcp-health.
//
// Prints its port, then for each call its metadata as one JSON object. Knows the services "" and "up" (SERVING), "down"
// (NOT_SERVING) and "unsure" (UNKNOWN). Ends when its standard input does.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func tell(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	line, _ := json.Marshal(md)
	fmt.Println(string(line))
	return next(ctx, in)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	cert := flag.String("cert", "", "speak TLS with this certificate")
	key := flag.String("key", "", "its key")
	clientCA := flag.String("client-ca", "", "want a client certificate of this CA")
	tls12 := flag.Bool("tls12", false, "TLS 1.2 at most")
	bare := flag.Bool("bare", false, "have no health service")
	stay := flag.Bool("stay", false, "stay when standard input ends")
	flag.Parse()

	options := []grpc.ServerOption{grpc.UnaryInterceptor(tell)}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		if *tls12 {
			config.MaxVersion = tls.VersionTLS12
		}
		if *clientCA != "" {
			pem, err := os.ReadFile(*clientCA)
			if err != nil {
				log.Fatal(err)
			}
			config.ClientCAs = x509.NewCertPool()
			config.ClientCAs.AppendCertsFromPEM(pem)
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	if !*bare {
		service := health.NewServer()
		service.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
		service.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
		service.SetServingStatus("unsure", healthpb.HealthCheckResponse_UNKNOWN)
		healthpb.RegisterHealthServer(server, service)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if !*stay {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			server.Stop()
		}()
	}
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
