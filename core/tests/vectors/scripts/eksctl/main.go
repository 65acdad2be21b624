// Prints a token made by eksctl's own generator (pkg/eks/auth), unmodified.
// Its presign client is made as in eksctl's pkg/eks/services_v2.go, with one option: the signer's clock.
package main

import (
	"context"
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
	"github.com/weaveworks/eksctl/pkg/credentials"
	"github.com/weaveworks/eksctl/pkg/eks/auth"
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

func main() {
	at, err := time.Parse(time.RFC3339, os.Getenv("SIGN_AT"))
	check(err)
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithClientLogMode(aws.LogSigning), config.WithLogger(logging.LoggerFunc(canonical)))
	check(err)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.Logger, o.LogSigning = cfg.Logger, cfg.ClientLogMode.IsSigning() })
	client := sts.NewPresignClient(sts.NewFromConfig(cfg, func(o *sts.Options) { o.Retryer = aws.NopRetryer{} }), func(o *sts.PresignOptions) { o.Presigner = fixed{signer, at} })
	token, err := auth.NewGenerator(client, &credentials.RealClock{}).GetWithSTS(context.Background(), os.Getenv("CLUSTER_ID"))
	check(err)
	fmt.Println(token.Token)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
