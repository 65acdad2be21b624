# The AWS SDK for Ruby's own Aws::STS::Presigner.get_caller_identity_presigned_url, made for EKS tokens.
require 'aws-sdk-core'
require 'base64'

# The gem's own canonical request, kept as it passes by.
module KeepCanonicalRequest
  def canonical_request(*args, **options)
    super.tap { |text| File.binwrite(ENV.fetch('CANONICAL_OUT'), text) }
  end
end
Aws::Sigv4::Signer.prepend(KeepCanonicalRequest)

client = Aws::STS::Client.new(region: ENV.fetch('AWS_REGION'), sts_regional_endpoints: 'regional')
url = Aws::STS::Presigner.new(client: client).get_caller_identity_presigned_url(headers: { 'X-K8s-Aws-Id' => ENV.fetch('CLUSTER_ID') })
versions = %w[aws-sdk-core aws-sigv4].map { |gem| "#{gem} #{Gem.loaded_specs.fetch(gem).version}" }
File.write(ENV.fetch('VERSION_OUT'), versions.join(' '))
puts "k8s-aws-v1.#{Base64.urlsafe_encode64(url, padding: false)}"
