"""`aws eks get-token`, the command itself (AWS_CLI names it); its canonical request is read off --debug."""
import json, os, re, subprocess

aws = os.environ.get("AWS_CLI", "aws")
run = subprocess.run([aws, "eks", "get-token", "--cluster-name", os.environ["CLUSTER_ID"], "--region",
                      os.environ["AWS_REGION"], "--output", "json", "--debug"], capture_output=True, text=True, check=True)
canonical = re.search(r"CanonicalRequest:\n(.*?)\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - MainThread", run.stderr, re.S)
with open(os.environ["CANONICAL_OUT"], "w", newline="") as file:
    file.write(canonical.group(1))
with open(os.environ["VERSION_OUT"], "w") as file:
    version = subprocess.run([aws, "--version"], capture_output=True, text=True, check=True).stdout.split()
    file.write(" ".join(w.replace("/", " ") for w in version if re.match("aws-cli|botocore", w)))
print(json.loads(run.stdout)["status"]["token"])
