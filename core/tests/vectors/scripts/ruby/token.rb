# kubeclient's own AmazonEksCredentials.token (it signs with the aws-sigv4 gem, always for sts.amazonaws.com in us-east-1).
# From Debian: apt-get install ruby-kubeclient ruby-aws-sigv4 ruby-aws-sdk-core
require 'aws-sigv4'
require 'aws-sdk-core'
require 'kubeclient'
require 'kubeclient/aws_eks_credentials'

# The gem's own canonical request, kept as it passes by.
module KeepCanonicalRequest
  def canonical_request(*args, **options)
    super.tap { |text| File.binwrite(ENV.fetch('CANONICAL_OUT'), text) }
  end
end
Aws::Sigv4::Signer.prepend(KeepCanonicalRequest)

credentials = Aws::Credentials.new(ENV.fetch('AWS_ACCESS_KEY_ID'), ENV.fetch('AWS_SECRET_ACCESS_KEY'), ENV['AWS_SESSION_TOKEN'])
versions = %w[kubeclient aws-sigv4].map { |gem| "#{gem} #{Gem.loaded_specs.fetch(gem).version}" }
File.write(ENV.fetch('VERSION_OUT'), versions.join(' '))
puts Kubeclient::AmazonEksCredentials.token(credentials, ENV.fetch('CLUSTER_ID'))
