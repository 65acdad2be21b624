//go:build ignore

package aws

import "github.com/aws/aws-sdk-go/service/sts"

// AWSClient has what the data source asks of the provider's own.
type AWSClient struct{ stsconn *sts.STS }

// Token reads the data source as Terraform does.
func Token(client *sts.STS, cluster string) (string, error) {
	source := dataSourceAwsEksClusterAuth()
	data := source.Data(nil)
	if err := data.Set("name", cluster); err != nil {
		return "", err
	}
	if err := source.Read(data, &AWSClient{stsconn: client}); err != nil {
		return "", err
	}
	return data.Get("token").(string), nil
}
