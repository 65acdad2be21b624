// The npm package aws-eks-token itself; it takes the time as its third argument.
import { readFileSync, writeFileSync } from "node:fs";
import EKSToken from "aws-eks-token";

const { env } = process;
EKSToken.config = {
  accessKeyId: env.AWS_ACCESS_KEY_ID,
  secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
  sessionToken: env.AWS_SESSION_TOKEN,
  region: env.AWS_REGION,
};
const { version } = JSON.parse(readFileSync(new URL("node_modules/aws-eks-token/package.json", import.meta.url)));
writeFileSync(env.VERSION_OUT, version);
console.log(await EKSToken.renew(env.CLUSTER_ID, "60", env.SIGN_AT.replace(/[-:]/g, "")));
