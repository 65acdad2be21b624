#!/usr/bin/env python3
"""Checks every case with the standard library alone: the signature is worked out again from the URL and the secret, and the
token must keep the rules of the contract's section 1."""
import base64, datetime, hashlib, hmac, json, pathlib, re, sys
from urllib.parse import quote, unquote_to_bytes

HERE = pathlib.Path(__file__).resolve().parent.parent
DOMAINS = {"aws": ("amazonaws.com", "api.aws"), "aws-us-gov": ("amazonaws.com", "api.aws"),
           "aws-cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"), "aws-iso": ("c2s.ic.gov",),
           "aws-iso-b": ("sc2s.sgov.gov",), "aws-iso-e": ("cloud.adc-e.uk",), "aws-iso-f": ("csp.hci.ic.gov",),
           "aws-eusc": ("amazonaws.eu", "api.amazonwebservices.eu")}
KEYS = ("action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-security-token",
        "x-amz-signature", "x-amz-signedheaders")
FIELDS = {"tool", "version", "made_by", "clock", "access_key_id", "secret_access_key", "session_token", "cluster_id",
          "region", "partition", "host", "signed_at", "expires"}


def encode(data):
    return quote(data, safe="-_.~")


def canonical_request(url, case):
    host, query = re.fullmatch(r"https://([^/?#]*)/\?(.*)", url).groups()
    pairs = [tuple(encode(unquote_to_bytes(part)) for part in pair.split("=", 1)) for pair in query.split("&")]
    signed = unquote_to_bytes(dict(pairs)["X-Amz-SignedHeaders"]).decode()
    values = {"host": host, "x-k8s-aws-id": re.sub(" +", " ", case["cluster_id"].strip(" "))}
    return "\n".join([
        "GET", "/", "&".join(f"{k}={v}" for k, v in sorted(pairs) if k != "X-Amz-Signature"),
        *(f"{name}:{values[name]}" for name in signed.split(";")), "", signed, hashlib.sha256(b"").hexdigest()])


def signature(canonical, credential, date, secret):
    scope = credential.split("/", 1)[1]
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check(folder):
    token, url = (folder / "token").read_bytes(), (folder / "url").read_bytes()
    case = json.loads((folder / "case.json").read_text())
    assert set(case) == FIELDS, FIELDS ^ set(case)
    assert (HERE / case["made_by"]).exists() or case["made_by"] == "hand", "made_by"
    # The contract, step by step.
    assert len(token) <= 4096, "length"
    assert token.startswith(b"k8s-aws-v1."), "prefix"
    body = token[11:]
    assert re.fullmatch(rb"[A-Za-z0-9_-]+", body), "base64"
    assert base64.urlsafe_b64encode(url).rstrip(b"=") == body, "base64: bits, or not the url file"
    assert re.fullmatch(rb"[\x21-\x7e]+", url), "url bytes"
    url = url.decode()
    scheme = re.fullmatch(r"https://([a-z0-9.-]+)/\?([^#;]+)", url)
    assert scheme, "scheme, authority, path, fragment or a raw semicolon"
    host, query = scheme.groups()
    assert host == case["host"], "host"
    forms = {f"{prefix}.{case['region']}.{domain}" for prefix in ("sts", "sts-fips") for domain in DOMAINS[case["partition"]]}
    assert host in forms or (host, case["region"], case["partition"]) == ("sts.amazonaws.com", "us-east-1", "aws"), "partition"
    assert not re.search(r"%(?![0-9A-Fa-f]{2})", query), "escape"
    values = {}
    for pair in query.split("&"):
        name, value = (unquote_to_bytes(part).decode() for part in pair.split("=", 1))
        assert name.lower() in KEYS and name.lower() not in values, f"parameter {name}"
        assert "+" not in pair, "a plus sign, which AWS reads as a blank or not"
        values[name.lower()] = value
    assert set(KEYS) - set(values) <= {"x-amz-security-token"}, "missing"
    assert values["action"] == "GetCallerIdentity" and values["version"] == "2011-06-15"
    assert values["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert sorted(values["x-amz-signedheaders"].lower().split(";")) == ["host", "x-k8s-aws-id"], "signed headers"
    date = values["x-amz-date"]
    at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    assert len(date) == 16 and at.timestamp() == case["signed_at"], "date"
    assert values["x-amz-credential"] == f"{case['access_key_id']}/{date[:8]}/{case['region']}/sts/aws4_request", "scope"
    assert re.fullmatch("[A-Za-z0-9_]{16,128}", case["access_key_id"]), "access key"
    assert re.fullmatch("[0-9]{1,3}", values["x-amz-expires"]) and int(values["x-amz-expires"]) == case["expires"] <= 900
    assert values.get("x-amz-security-token") == case["session_token"], "session token"
    assert re.fullmatch("[0-9a-f]{64}", values["x-amz-signature"]), "signature form"
    # The proof.
    canonical = canonical_request(url, case)
    got = signature(canonical, values["x-amz-credential"], date, case["secret_access_key"])
    assert got == values["x-amz-signature"], f"signature {got}\n{canonical}"
    if (folder / "canonical-request").exists():
        assert (folder / "canonical-request").read_bytes() == canonical.encode(), "canonical-request"
    return f"{len(token):4}  " + " ".join(p.split("=")[0].replace("X-Amz-", "") for p in query.split("&"))


def main():
    folders = sorted(f.parent for f in HERE.glob("*/case.json"))
    failed = 0
    for folder in folders:
        try:
            print(f"ok    {folder.name:32} {check(folder)}")
        except (AssertionError, KeyError, ValueError) as error:
            failed += 1
            print(f"FAIL  {folder.name:32} {type(error).__name__} {error}")
    print(f"{len(folders) - failed} passed, {failed} failed")
    sys.exit(failed != 0)


main()
