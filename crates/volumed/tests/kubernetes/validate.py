"""Holds manifests against the schemas of Kubernetes: validate.py VERSION FILE..."""
import sys

import kubernetes_validate
import yaml

# Not of Kubernetes itself, so there is no schema.
FOREIGN = {"Kustomization", "VolumeSnapshotClass"}


def main() -> int:
    version, files = sys.argv[1], sys.argv[2:]
    wrong = 0
    for file in files:
        with open(file) as text:
            documents = [one for one in yaml.safe_load_all(text) if one is not None]
        for one in documents:
            if one["kind"] in FOREIGN:
                continue
            try:
                # Strict: a key that Kubernetes does not know is an error, too.
                kubernetes_validate.validate(one, version, strict=True)
                print("valid", one["kind"], one["metadata"]["name"])
            except Exception as error:
                wrong += 1
                print("WRONG", file, one["kind"], error)
    return 1 if wrong else 0


sys.exit(main())
