// Prints a token made with the AWS SDK for Go v1, as its users (and aws-iam-authenticator up to 0.6) do it:
// GetCallerIdentityRequest, the header, Presign(60 s).
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/aws/signer/v4"
	"github.com/aws/aws-sdk-go/service/sts"
)

var canonical = regexp.MustCompile(`(?s)---\[ CANONICAL STRING  \]-+\n(.*?)\n---\[ STRING TO SIGN`)

func main() {
	at, err := time.Parse(time.RFC3339, os.Getenv("SIGN_AT"))
	check(err)
	expires := 60
	if text := os.Getenv("EXPIRES"); text != "" {
		expires, err = strconv.Atoi(text)
		check(err)
	}
	log := aws.LoggerFunc(func(args ...any) {
		if found := canonical.FindStringSubmatch(fmt.Sprint(args...)); found != nil {
			check(os.WriteFile(os.Getenv("CANONICAL_OUT"), []byte(found[1]), 0o644))
		}
	})
	client := sts.New(session.Must(session.NewSession(aws.NewConfig().WithLogger(log).WithLogLevel(aws.LogDebugWithSigning))))
	call, _ := client.GetCallerIdentityRequest(&sts.GetCallerIdentityInput{})
	call.HTTPRequest.Header.Add("x-k8s-aws-id", os.Getenv("CLUSTER_ID"))
	call.Handlers.Sign.SwapNamed(request.NamedHandler{Name: v4.SignRequestHandler.Name, Fn: func(r *request.Request) {
		r.Time = at
		v4.SignSDKRequestWithCurrentTime(r, func() time.Time { return at })
	}})
	// EXPIRES=0: aws-iam-authenticator's and older Terraform providers' Presign(60) means 60 ns, which the SDK writes as 0.
	duration := time.Duration(expires) * time.Second
	if expires == 0 {
		duration = 60
	}
	url, err := call.Presign(duration)
	check(err)
	check(os.WriteFile(os.Getenv("VERSION_OUT"), []byte(aws.SDKVersion), 0o644))
	fmt.Println("k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(url)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
