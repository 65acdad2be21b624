"""The recipe found everywhere: boto3's session, botocore's RequestSigner.generate_presigned_url."""
import base64, logging, os

import boto3, botocore
from botocore.signers import RequestSigner


class Canonical(logging.Handler):
    def emit(self, record):
        if str(record.msg).startswith("CanonicalRequest:"):
            with open(os.environ["CANONICAL_OUT"], "w", newline="") as file:
                file.write(record.args[0])


logging.getLogger("botocore.auth").addHandler(Canonical())
logging.getLogger("botocore.auth").setLevel(logging.DEBUG)

region = os.environ["AWS_REGION"]
session = boto3.session.Session(region_name=region)
client = session.client("sts", region_name=region)
signer = RequestSigner(client.meta.service_model.service_id, region, "sts", "v4", session.get_credentials(), session.events)
url = signer.generate_presigned_url(
    {
        "method": "GET",
        "url": f"https://{os.environ['STS_HOST']}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": os.environ["CLUSTER_ID"]},
        "context": {},
    },
    region_name=region,
    expires_in=60,
    operation_name="",
)
with open(os.environ["VERSION_OUT"], "w") as file:
    file.write(f"boto3 {boto3.__version__} botocore {botocore.__version__}")
print("k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("="))
