"""`aws-iam-authenticator token`, the binary built as shared/reference/README.md says (REFERENCE_BIN names it). It stamps the real time."""
import json, os, subprocess

binary = os.environ.get("REFERENCE_BIN", "aws-iam-authenticator")
run = subprocess.run([binary, "token", "-i", os.environ["CLUSTER_ID"], "--region", os.environ["AWS_REGION"]],
                     capture_output=True, text=True, check=True)
with open(os.environ["VERSION_OUT"], "w") as file:
    file.write("0.7.18")
print(json.loads(run.stdout)["status"]["token"])
