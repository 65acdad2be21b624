#!/usr/bin/env python3
"""Makes the vectors anew: run.py [--build] [--keep-going] [tool or case …]  (none: all of them)

Each tool's command (inputs.json) is run once for each case, with the credentials, AWS_REGION, CLUSTER_ID, STS_HOST
and SIGN_AT in its environment, under faketime where the tool asks the system for the time. It prints the token; if
$CANONICAL_OUT is written, those bytes are the tool's own canonical request; $VERSION_OUT says what ran.
"""
import base64, calendar, json, os, pathlib, subprocess, sys, tempfile, time, urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-isob-", "aws-iso-b"), ("us-isof-", "aws-iso-f"),
              ("eu-isoe-", "aws-iso-e"), ("us-iso-", "aws-iso"), ("eusc-", "aws-eusc"))


def make(inputs, tool, name, spec, case):
    with tempfile.TemporaryDirectory() as home:
        out = pathlib.Path(home)
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        session = inputs["session_token"] if case.get("session") else None
        key = inputs["temporary_access_key_id" if session else "access_key_id"]
        env.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=inputs["secret_access_key"], AWS_REGION=case["region"],
                   AWS_DEFAULT_REGION=case["region"], AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=str(out / "none"),
                   AWS_SHARED_CREDENTIALS_FILE=str(out / "none"), CLUSTER_ID=case["cluster"], SIGN_AT=inputs["clock"],
                   CANONICAL_OUT=str(out / "canonical"), VERSION_OUT=str(out / "version"), TZ="UTC", AWS_PAGER="",
                   AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE="1")
        env.setdefault("STS_HOST", f"sts.{case['region']}.amazonaws.com")
        if session:
            env["AWS_SESSION_TOKEN"] = session
        env.update(spec.get("env", {}))
        env.update(case.get("env", {}))
        command = spec["command"]
        if spec.get("faketime"):
            command = ["faketime", "-m", "-f", inputs["clock"].replace("T", " ").rstrip("Z"), *command]
        run = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, timeout=120)
        if run.returncode:
            raise SystemExit(f"{name}: {run.stderr[-400:]}")
        token = run.stdout.strip().splitlines()[-1]
        canonical = (out / "canonical").read_bytes() if (out / "canonical").exists() else None
        version = (out / "version").read_text().strip() if (out / "version").exists() else spec["version"]

    body = token.removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    split = urllib.parse.urlsplit(url)
    query = {k.lower(): v for k, v in urllib.parse.parse_qsl(split.query, keep_blank_values=True)}
    signed = calendar.timegm(time.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ"))
    region = query["x-amz-credential"].split("/")[2]
    made = {"java": f"java/src/main/java/{spec['command'][-1]}.java", "eksctl": "eksctl/main.go", "terraform": "terraform/main.go",
            "rust": "rust/src/main.rs", "go-v1": "go-v1/main.go", "go-v2": "go-v2/main.go"}
    script = next(part for part in spec["command"] if "/" in part)
    script = made.get(script.split("/")[0], script)
    facts = {
        "tool": case.get("tool", tool), "version": version, "made_by": "scripts/" + script,
        "clock": "fixed" if signed == calendar.timegm(time.strptime(inputs["clock"], "%Y-%m-%dT%H:%M:%SZ")) else "wall",
        "access_key_id": key, "secret_access_key": inputs["secret_access_key"], "session_token": session,
        "cluster_id": case["cluster"], "region": region,
        "partition": next((p for prefix, p in PARTITIONS if region.startswith(prefix)), "aws"),
        "host": split.netloc, "signed_at": signed, "expires": int(query["x-amz-expires"])}
    folder = HERE.parent / name
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "url").write_text(url)
    (folder / "case.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "canonical-request").unlink(missing_ok=True)
    if canonical is not None:
        (folder / "canonical-request").write_bytes(canonical)
    print(name, facts["clock"], split.netloc, "canonical request" if canonical else "")


def main():
    inputs = json.loads((HERE / "inputs.json").read_text())
    wanted = [a for a in sys.argv[1:] if not a.startswith("--")]
    failed = 0
    for tool, spec in inputs["tools"].items():
        names = [n for n in spec["cases"] if not wanted or tool in wanted or n in wanted]
        if names and "--build" in sys.argv and "build" in spec:
            subprocess.run(spec["build"], cwd=HERE, check=True)
        for name in names:
            try:
                make(inputs, tool, name, spec, spec["cases"][name])
            except (SystemExit, OSError, ValueError, KeyError) as error:
                if "--keep-going" not in sys.argv:
                    raise
                failed += 1
                print(name, "FAILED:", error)
    sys.exit(1 if failed else 0)


main()
