#!/usr/bin/env python3
"""Builds terraform-token. The provider's package is far too big to compile for one file, so provider/ (ignored by git) gets
the module's go.mod, that file, unmodified, and shim.go; go.mod beside this page replaces the module by it."""
import json, pathlib, shutil, subprocess

HERE = pathlib.Path(__file__).resolve().parent
MODULE = "github.com/terraform-providers/terraform-provider-aws@v1.60.0"
found = subprocess.run(["go", "mod", "download", "-json", MODULE], check=True, capture_output=True, cwd=HERE.anchor)
module, provider = pathlib.Path(json.loads(found.stdout)["Dir"]), HERE / "provider"
(provider / "aws").mkdir(parents=True, exist_ok=True)
shutil.copyfile(module / "go.mod", provider / "go.mod")
shutil.copyfile(module / "aws/data_source_aws_eks_cluster_auth.go", provider / "aws/data_source_aws_eks_cluster_auth.go")
(provider / "aws/shim.go").write_text((HERE / "shim.go").read_text().replace("//go:build ignore\n", ""))
subprocess.run(["go", "build", "-p", "1", "-o", "terraform-token", "."], cwd=HERE, check=True)
