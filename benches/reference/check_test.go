// What the reference (sigs.k8s.io/aws-iam-authenticator) takes for a token up to its HTTP call, and with the answer to it: beside arngate's request/check.
//
// benches/results copies this next to the pins of cli/tests/reference and runs it there, with the tokens in TOKEN_KEY_500 and TOKEN_SESSION_1K8.
package reference_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/aws-iam-authenticator/pkg/token"
)

const answer = `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/bench",` +
	`"UserId":"AIDACKCEVSQ6C2EXAMPLE"},"ResponseMetadata":{"RequestId":"1"}}}`

var errHere = errors.New("no further than here")

// transport stands where the network would begin.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func bench(b *testing.B, call transport, check func(*token.Identity, error) bool) {
	before := http.DefaultTransport
	http.DefaultTransport = call
	defer func() { http.DefaultTransport = before }()
	for name, variable := range map[string]string{"key_500": "TOKEN_KEY_500", "session_1k8": "TOKEN_SESSION_1K8"} {
		bearer := os.Getenv(variable)
		if bearer == "" {
			b.Skipf("%s is not set", variable)
		}
		b.Run(name, func(b *testing.B) {
			verifier := token.NewVerifier("bench.example.com", "aws", "eu-west-1")
			b.ReportAllocs()
			for b.Loop() {
				if identity, err := verifier.Verify(bearer); !check(identity, err) {
					b.Fatal(identity, err)
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	refuse := func(*http.Request) (*http.Response, error) { return nil, errHere }
	bench(b, refuse, func(_ *token.Identity, err error) bool {
		return err != nil && strings.Contains(err.Error(), errHere.Error())
	})
}

func BenchmarkCheckAndAnswer(b *testing.B) {
	tell := func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r,
		}, nil
	}
	bench(b, tell, func(identity *token.Identity, err error) bool {
		return err == nil && identity.ARN == "arn:aws:iam::123456789012:user/bench"
	})
}
