// The published recipe for the AWS SDK for JavaScript v3: SignatureV4.presign and formatUrl.
import { writeFileSync, readFileSync } from "node:fs";
import { Sha256 } from "@aws-crypto/sha256-js";
import { formatUrl } from "@aws-sdk/util-format-url";
import { HttpRequest } from "@smithy/protocol-http";
import { SignatureV4 } from "@smithy/signature-v4";

const { env } = process;
const host = env.STS_HOST;

class Signer extends SignatureV4 {
  createCanonicalRequest(...args) {
    const text = super.createCanonicalRequest(...args);
    writeFileSync(env.CANONICAL_OUT, text);
    return text;
  }
}

const signer = new Signer({
  region: env.AWS_REGION,
  service: "sts",
  sha256: Sha256,
  credentials: {
    accessKeyId: env.AWS_ACCESS_KEY_ID,
    secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
    sessionToken: env.AWS_SESSION_TOKEN,
  },
});
const request = new HttpRequest({
  protocol: "https:",
  hostname: host,
  method: "GET",
  path: "/",
  query: { Action: "GetCallerIdentity", Version: "2011-06-15" },
  headers: { host, "x-k8s-aws-id": env.CLUSTER_ID },
});
const signed = await signer.presign(request, { expiresIn: 60, signingDate: new Date(env.SIGN_AT) });
const { version } = JSON.parse(readFileSync(new URL("node_modules/@smithy/signature-v4/package.json", import.meta.url)));
writeFileSync(env.VERSION_OUT, `@smithy/signature-v4 ${version}`);
console.log("k8s-aws-v1." + Buffer.from(formatUrl(signed)).toString("base64url"));
