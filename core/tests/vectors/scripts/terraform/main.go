// Prints a token made by Terraform's data source aws_eks_cluster_auth: its own file out of provider 1.60.0 (2019), the
// newest that is published as a Go module, compiled unmodified with the aws-iam-authenticator and SDK that it pins.
// build.py leaves the rest of the provider's package out and puts shim.go in.
package main

import (
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/aws/signer/v4"
	"github.com/aws/aws-sdk-go/service/sts"
	provider "github.com/terraform-providers/terraform-provider-aws/aws"
)

var canonical = regexp.MustCompile(`(?s)---\[ CANONICAL STRING  \]-+\n(.*?)\n---\[ STRING TO SIGN`)

func main() {
	at, err := time.Parse(time.RFC3339, os.Getenv("SIGN_AT"))
	check(err)
	log := aws.LoggerFunc(func(args ...any) {
		if found := canonical.FindStringSubmatch(fmt.Sprint(args...)); found != nil {
			check(os.WriteFile(os.Getenv("CANONICAL_OUT"), []byte(found[1]), 0o644))
		}
	})
	client := sts.New(session.Must(session.NewSession(aws.NewConfig().WithLogger(log).WithLogLevel(aws.LogDebugWithSigning))))
	client.Handlers.Sign.SwapNamed(request.NamedHandler{Name: v4.SignRequestHandler.Name, Fn: func(r *request.Request) {
		r.Time = at
		v4.SignSDKRequestWithCurrentTime(r, func() time.Time { return at })
	}})
	token, err := provider.Token(client, os.Getenv("CLUSTER_ID"))
	check(err)
	check(os.WriteFile(os.Getenv("VERSION_OUT"), []byte("1.60.0 (aws-sdk-go "+aws.SDKVersion+")"), 0o644))
	fmt.Println(token)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
