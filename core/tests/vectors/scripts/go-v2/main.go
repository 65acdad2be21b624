// Prints a token made with the AWS SDK for Go v2: sts.NewPresignClient with the header and X-Amz-Expires set by
// smithyhttp.SetHeaderValue, as published recipes do it.
//
// With SHAPE=terraform it does what the source of Terraform's aws_eks_cluster_auth does (internal/service/eks/token.go):
// build-step middleware that adds the header, and X-Amz-Expires put into the query (60 ns in whole seconds, so 0).
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// fixed hands the SDK's own signer a given instant.
type fixed struct {
	signer sts.HTTPPresignerV4
	at     time.Time
}

func (f fixed) PresignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payloadHash, service, region string,
	_ time.Time, opts ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return f.signer.PresignHTTP(ctx, c, r, payloadHash, service, region, f.at, opts...)
}

// canonical keeps the canonical request out of the signer's log.
func canonical(_ logging.Classification, format string, args ...any) {
	_, text, found := strings.Cut(fmt.Sprintf(format, args...), "---[ CANONICAL STRING  ]-----------------------------\n")
	if found {
		text, _, _ = strings.Cut(text, "\n---[ STRING TO SIGN")
		check(os.WriteFile(os.Getenv("CANONICAL_OUT"), []byte(text), 0o644))
	}
}

func build(id string, change func(*smithyhttp.Request)) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Build.Add(middleware.BuildMiddlewareFunc(id, func(ctx context.Context, in middleware.BuildInput,
			next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			change(in.Request.(*smithyhttp.Request))
			return next.HandleBuild(ctx, in)
		}), middleware.After)
	}
}

func main() {
	at, err := time.Parse(time.RFC3339, os.Getenv("SIGN_AT"))
	check(err)
	ctx, cluster, expires := context.Background(), os.Getenv("CLUSTER_ID"), os.Getenv("EXPIRES")
	if expires == "" {
		expires = "60"
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithClientLogMode(aws.LogSigning), config.WithLogger(logging.LoggerFunc(canonical)))
	check(err)
	steps := []func(*middleware.Stack) error{
		smithyhttp.SetHeaderValue("x-k8s-aws-id", cluster),
		smithyhttp.SetHeaderValue("X-Amz-Expires", expires),
	}
	if os.Getenv("SHAPE") == "terraform" {
		steps = []func(*middleware.Stack) error{
			build("cluster", func(r *smithyhttp.Request) { r.Header.Add("x-k8s-aws-id", cluster) }),
			build("expires", func(r *smithyhttp.Request) {
				query := r.URL.Query()
				query.Set("X-Amz-Expires", "0")
				r.URL.RawQuery = query.Encode()
			}),
		}
	}
	// The SDK's own signer, with the options that it gives it by default.
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.Logger, o.LogSigning = cfg.Logger, cfg.ClientLogMode.IsSigning() })
	client := sts.NewPresignClient(sts.NewFromConfig(cfg), func(o *sts.PresignOptions) { o.Presigner = fixed{signer, at} })
	signed, err := client.PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.PresignOptions) {
		o.ClientOptions = append(o.ClientOptions, func(o *sts.Options) { o.APIOptions = append(o.APIOptions, steps...) })
	})
	check(err)
	check(os.WriteFile(os.Getenv("VERSION_OUT"), []byte(aws.SDKVersion+", service/sts 1.52.0"), 0o644))
	fmt.Println("k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(signed.URL)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
